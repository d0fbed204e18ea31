"""Which predictions are in the audit: a share of them, chosen by chance, that somebody is to label. Pure.

Labels come from those who complain: the share of right answers among volunteered labels is not that of all predictions.
Among predictions that were chosen by chance it is.
"""

from hashlib import blake2b
from typing import NamedTuple


class Audit(NamedTuple):
    """`share` of the predictions are in it, 0 to 1; `salt` (64 bytes at most) makes the choice one that nobody can
    foresee who does not know it.
    """

    share: float
    salt: str

    def share_of(self, message_id: str) -> float | None:
        """The share, if the prediction of this message is in the audit; else None.

        A keyed BLAKE2b (RFC 7693) of the id decides, and nothing else: whoever scores the message again chooses alike,
        and a larger share only adds to a smaller one.
        """
        digest = blake2b(message_id.encode(), digest_size=8, key=self.salt.encode()).digest()
        return self.share if int.from_bytes(digest) < self.share * 2**64 else None
