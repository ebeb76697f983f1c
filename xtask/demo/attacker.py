"""The attacker's collector of the demo, on loopback: `attacker.py LOG [--tcp PORT] [--udp PORT]`.

Every byte that arrives is appended to LOG at once, one line of JSON per arrival:

    {"protocol": "tcp" | "udp", "from": "127.0.0.1:12345", "data": "..."}

with each byte as the character of the same number, so nothing is lost. A TCP connection is logged
even when nothing comes over it, with empty data: being reached is already a leak.

Prints the ports that it listens on as one line of JSON, {"tcp": PORT, "udp": PORT}, and serves
until killed.
"""

import argparse
import json
import socket
import threading
from socketserver import BaseRequestHandler, ThreadingTCPServer

BUFFER_BYTES = 64 * 1024
TIMEOUT_SECONDS = 5
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Log:
    """The file that arrivals are appended to, by one thread at a time."""

    def __init__(self, path):
        self.lock = threading.Lock()
        self.file = open(path, "a", encoding="utf-8")

    def append(self, protocol, sender, data):
        arrival = {
            "protocol": protocol,
            "from": f"{sender[0]}:{sender[1]}",
            "data": data.decode("latin-1"),
        }
        with self.lock:
            self.file.write(json.dumps(arrival) + "\n")
            self.file.flush()


class CollectHandler(BaseRequestHandler):
    """Takes whatever comes, and answers as a web server so that the thief believes it."""

    def handle(self):
        self.server.log.append("tcp", self.client_address, b"")
        self.request.settimeout(TIMEOUT_SECONDS)
        received = b""
        try:
            while not is_whole_request(received):
                data = self.request.recv(BUFFER_BYTES)
                if not data:
                    break
                self.server.log.append("tcp", self.client_address, data)
                received += data
            self.request.sendall(ANSWER)
        except OSError:
            # The other side is gone or silent. What came is in the log.
            pass


def is_whole_request(received):
    """Whether a whole HTTP request has arrived."""
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return False
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length" and value.strip().isdigit():
            return len(body) >= int(value)
    return True


class CollectServer(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port, log):
        super().__init__(("127.0.0.1", port), CollectHandler)
        self.log = log


def collect_datagrams(channel, log):
    while True:
        data, sender = channel.recvfrom(BUFFER_BYTES)
        log.append("udp", sender, data)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", help="file that everything received is appended to")
    parser.add_argument("--tcp", type=int, default=0, help="port; 0 for any free one (the default)")
    parser.add_argument("--udp", type=int, default=0, help="port; 0 for any free one (the default)")
    arguments = parser.parse_args()
    log = Log(arguments.log)
    server = CollectServer(arguments.tcp, log)
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    channel.bind(("127.0.0.1", arguments.udp))
    threading.Thread(target=collect_datagrams, args=(channel, log), daemon=True).start()
    ports = {"tcp": server.server_address[1], "udp": channel.getsockname()[1]}
    print(json.dumps(ports), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
