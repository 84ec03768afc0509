"""A peer that answers CONNECT with given bytes, for what no real broker can be made to say."""

import contextlib
import socket
import threading


@contextlib.contextmanager
def server(answer, *, hold=False, then=()):
    """Accepts, reads the CONNECT, writes `answer(version byte of it)`, answers what it reads by each of `then`, closes
    unless `hold`; yields port, versions."""
    listener = socket.create_server(("127.0.0.1", 0))
    versions = []
    kept = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                kept.append(peer)
                packet = peer.recv(4096)
                versions.append(packet[8] if len(packet) > 8 else 0)
                with contextlib.suppress(OSError):
                    peer.sendall(answer(versions[-1]))
                    for more in then:
                        peer.recv(4096)
                        peer.sendall(more)
                if not hold:
                    peer.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], versions
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for peer in kept:
            peer.close()


def connack(code, version=5):
    return bytes([0x20, 3, 0, code, 0]) if version == 5 else bytes([0x20, 2, 0, code])
