"""The weather service of the demo, on loopback: `weather_api.py [--port PORT]`.

Prints the port that it listens on as one line of JSON, {"tcp": PORT}, and serves until killed.
"""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class WeatherHandler(BaseHTTPRequestHandler):
    """Answers every city with the same weather, to callers that have a key."""

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path != "/data/2.5/weather":
            self.send_error(404)
        elif not self.headers.get("X-Api-Key"):
            self.send_error(401, "an X-Api-Key header is needed")
        else:
            city = parse_qs(url.query).get("q", ["Zurich"])[0]
            self.answer({"city": city, "celsius": 18, "sky": "clear sky"})

    def answer(self, weather):
        body = json.dumps(weather).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """The demo shows what the sandbox records, not what the service does."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 for any free one (the default)")
    arguments = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), WeatherHandler)
    print(json.dumps({"tcp": server.server_port}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
