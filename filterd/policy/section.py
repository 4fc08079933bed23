"""The form of every section of a policy file."""

from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, ValidatorFunctionWrapHandler, field_validator


class Section(BaseModel):
    """What all sections share: no unknown keys, no change after loading, no empty values but where none is one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="wrap")
    @classmethod
    def _is_not_empty(cls, value: Any, read: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        if value is not None:
            return read(value)
        if NoneType not in get_args(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("here stands nothing; write a value, or leave the key out")
        return None
