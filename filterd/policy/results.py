"""What the checks found for one mail. None means that a check was not run; "none" is a result like any other."""

from dataclasses import dataclass

from filterd.arc.verify import ArcResult, Hop
from filterd.dkim.verify import DkimResult
from filterd.dmarc.evaluate import DmarcResult
from filterd.dnsbl import ListResult
from filterd.helo import HeloResult
from filterd.iprev import IprevResult
from filterd.spam import SpamResult
from filterd.spf.check import SpfResult


@dataclass(frozen=True, slots=True)
class Results:
    """The results so far. `dkim` has one result a signature: an empty tuple means that the mail bears none.

    `dmarc_psl` is DMARC by the public suffix list, where the policy compares and that differs from `dmarc`.
    `dnsbl` are the lists that were asked of client, HELO name and sender, `dnsbl_author` those of the author domain.
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
    dnsbl: tuple[ListResult, ...] | None = None
    dnsbl_author: tuple[ListResult, ...] | None = None
    spam: SpamResult | None = None
    helo: HeloResult | None = None
