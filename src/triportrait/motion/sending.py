"""Motion over the network as it happens: datagrams to programs that show avatars."""

from __future__ import annotations

import socket
from collections.abc import Callable

from triportrait.errors import OptionError
from triportrait.motion.packets import LIVE_LINK_PORT, VMC_PORT, LiveLinkPackets, VmcPackets
from triportrait.types import Motion

#: Flag -> its usual port and what makes its datagrams.
_KINDS: dict[str, tuple[int, Callable[[], Callable[[Motion, int], list[bytes]]]]] = {
    "--live-link": (LIVE_LINK_PORT, LiveLinkPackets),
    "--vmc": (VMC_PORT, VmcPackets),
}


class MotionSender:
    """Sends rows to one receiver; nobody answers, and a receiver that is not there is not noticed.

    Args:
        flag: ``--live-link`` or ``--vmc``.
        target: host, or host:port.

    Raises:
        OptionError: there is no such host or port.
    """

    def __init__(self, flag: str, target: str) -> None:
        usual, packets = _KINDS[flag]
        host, _, port = target.rpartition(":") if ":" in target else (target, "", str(usual))
        try:
            family, kind, _, _, self._address = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0]
        except (ValueError, OSError):
            raise OptionError(
                f"{flag} is {target!r}, which is no address; give a host, or a host and a port as 127.0.0.1:{usual}"
            ) from None
        self._socket, self._packets = socket.socket(family, kind), packets()

    def __call__(self, row: Motion, frame: int) -> None:
        """Send the first row of a motion as frame number ``frame``.

        Raises:
            MotionFileError: the motion has no ARKit curves.
        """
        for packet in self._packets(row, frame):
            self._socket.sendto(packet, self._address)

    def close(self) -> None:
        """Send no more."""
        self._socket.close()
