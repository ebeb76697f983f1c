"""Threads, a child process, and a TLS handshake between two ends in memory."""

import concurrent.futures
import ssl
import subprocess

with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
    print("threads:", sum(pool.map(lambda number: number * number, range(100))))

digest = subprocess.run(
    ["/usr/bin/sha256sum"], input=b"skill\n", capture_output=True, check=True
)
print("process:", digest.stdout.decode().split()[0])

# As any client of a web service begins.
assert ssl.create_default_context().verify_mode == ssl.CERT_REQUIRED


def end(protocol):
    """One end. Without a certificate, so that the example has no key to keep."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
    return context


to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
client = end(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(to_client, to_server)
server = end(ssl.PROTOCOL_TLS_SERVER).wrap_bio(to_server, to_client, server_side=True)
waiting = [client, server]
while waiting:
    for side in list(waiting):
        try:
            side.do_handshake()
            waiting.remove(side)
        except ssl.SSLWantReadError:
            pass
client.write(b"hello")
print("tls:", server.read().decode(), client.version())
