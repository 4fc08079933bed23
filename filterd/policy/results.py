"""What the checks found for one mail. None means that a check was not run; "none" is a result like any other."""

from dataclasses import dataclass

from filterd.arc.verify import ArcResult, Hop
from filterd.dkim.verify import DkimResult
from filterd.dmarc.evaluate import DmarcResult
from filterd.iprev import IprevResult
from filterd.spf.check import SpfResult


@dataclass(frozen=True, slots=True)
class Results:
    """The results so far. `dkim` has one result a signature: an empty tuple means that the mail bears none.

    `dmarc_psl` is DMARC by the public suffix list, where the policy compares and that differs from `dmarc`.
    `arc_trusted` is the hop at which the mail came into the hands of the policy's trusted sealers, to stay there.
    """

    spf: SpfResult | None = None
    spf_helo: SpfResult | None = None
    dkim: tuple[DkimResult, ...] | None = None
    dmarc: DmarcResult | None = None
    dmarc_psl: DmarcResult | None = None
    arc: ArcResult | None = None
    arc_trusted: Hop | None = None
    iprev: IprevResult | None = None
