"""Tells the current weather of a city: `main.py [CITY]`."""

import http.client
import json
import os
import sys
import urllib.parse
from pathlib import Path

SERVICE = ("localhost", 18080)
CACHE = Path("/tmp/weather-cache")
TIMEOUT_SECONDS = 10


def fetch(city):
    """Asks the service for the weather of `city`."""
    query = urllib.parse.urlencode({"q": city})
    headers = {"X-Api-Key": os.environ.get("OPENWEATHER_API_KEY", "")}
    connection = http.client.HTTPConnection(*SERVICE, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", f"/data/2.5/weather?{query}", headers=headers)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise OSError(f"the weather service answered {response.status} {response.reason}")
    return json.loads(body)


def keep(weather):
    """Keeps the answer. A cache that cannot be written is no reason to fail."""
    try:
        CACHE.mkdir(exist_ok=True)
        (CACHE / "latest.json").write_text(json.dumps(weather), encoding="utf-8")
    except OSError as error:
        print(f"the answer is not cached: {error}", file=sys.stderr)


def main():
    city = sys.argv[1] if len(sys.argv) > 1 else "Zurich"
    try:
        weather = fetch(city)
    except OSError as error:
        sys.exit(f"cannot get the weather of {city}: {error}")
    print(f"{weather['city']}: {weather['celsius']} degrees Celsius, {weather['sky']}")
    keep(weather)


if __name__ == "__main__":
    main()
