"""What the config says about listening, turned into sockets and a certificate, or into a sentence about why that cannot be."""

from __future__ import annotations

import socket
import ssl

from brewd.config import Tls, parse_address
from brewd.edge.listener import bind


class CannotListen(Exception):
    """Something an operator can put right; the message names the key and says what."""


def bound(text: str) -> socket.socket:
    """A listening socket for one entry of `server.listen`. Raises `CannotListen`, or `PortInUse`."""
    try:
        return bind(parse_address(text))
    except OSError as error:
        raise CannotListen(f"server.listen: {text}: {error.strerror or error}") from None


def certificate(tls: Tls) -> ssl.SSLContext | None:
    """What to encrypt with; None for plain text. Raises `CannotListen`."""
    if not tls.cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.cert, tls.key)
    except OSError as error:  # an SSLError is one, too
        raise CannotListen(f"server.tls: {tls.cert} and {tls.key} are not a certificate and its key: {error.strerror or error}") from None
    return context
