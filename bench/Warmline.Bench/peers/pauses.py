"""httpx in the run of "pauses": the same calls, users and kind of pauses. One JSON object a call."""
import asyncio
import json
import random
import ssl
import sys
import time

import httpx

server, ca, version = sys.argv[1:4]
calls, users, longest, hang = (float(value) for value in sys.argv[4:8])


async def user():
    limits = httpx.Timeout(hang)
    async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=ca), http2=version == "2", http1=version != "2", timeout=limits, trust_env=False) as client:
        for i in range(int(calls // users)):
            await asyncio.sleep(random.random() * longest)
            start, ok, late, error = time.perf_counter(), True, False, ""
            try:
                body = {"model": "mock", "stream": i % 2 == 1, "messages": [{"role": "user", "content": "x" * 20}]}
                response = await asyncio.wait_for(client.post(f"{server.rstrip('/')}/v1/chat/completions", json=body), hang)
                response.raise_for_status()
            except (asyncio.TimeoutError, httpx.TimeoutException):
                ok, late = False, True
            except Exception as failure:
                ok, error = False, f"{type(failure).__name__}: {failure}"
            print(json.dumps({"ok": ok, "late": late, "ms": (time.perf_counter() - start) * 1000, "error": error}), flush=True)


async def main():
    await asyncio.gather(*(user() for _ in range(int(users))))


asyncio.run(main())
