"""A job: submitted, polled as the gateway asks, and fetched.

OPENAI_BASE_URL and OPENAI_API_KEY say where and as whom; TALLYGATE_MODEL names a model.
"""

from __future__ import annotations

import os
import sys
import time

import httpx

GIVE_UP_AFTER_S = 60.0

api = httpx.Client(
    base_url=os.environ["OPENAI_BASE_URL"],
    headers={"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"},
    timeout=30,
)
submitted = api.post(
    "/jobs",
    json={
        "model": os.environ.get("TALLYGATE_MODEL", "echo-1"),
        "messages": [{"role": "user", "content": "take your time"}],
        "ttl_s": 60,
    },
)
submitted.raise_for_status()
job = submitted.json()
# 202 means that the broker has it: from now on nothing that dies can lose it.
print(f"job {job['id']}: {job['status']}")

ends_at_s = time.monotonic() + GIVE_UP_AFTER_S
while job["status"] in ("queued", "running"):
    if time.monotonic() > ends_at_s:
        sys.exit("it takes too long")
    time.sleep(0.2)
    answer = api.get(f"/jobs/{job['id']}")
    answer.raise_for_status()
    job = answer.json()

print(f"job {job['id']}: {job['status']}")
if job["status"] != "completed":
    sys.exit(str(job.get("error")))
print(job["result"]["choices"][0]["message"]["content"])
