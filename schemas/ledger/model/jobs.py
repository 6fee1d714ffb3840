"""The list of jobs in plain Python; like all of the model it forgets nothing. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from schemas.ledger import answers, documents
from schemas.times import FULL

JOB_KEPT_MS = FULL.ledger.job_kept_ms


@dataclass
class Jobs:
    """Per organization: request to (time of creation, info)."""

    listed: dict[str, dict[str, tuple[int, str]]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, doc: documents.Job, now_us: int) -> answers.JobAnswer:
        """See tg1_job."""
        jobs, now_ms = self.listed[doc.org], now_us // 1000
        if doc.req not in jobs and len(jobs) >= doc.limit:
            oldest_ms = min((created_ms for created_ms, _ in jobs.values()), default=now_ms)
            return answers.Limited(
                id="org:jobs",
                usage=len(jobs),
                limit=doc.limit,
                retry_after_ms=max(1, oldest_ms + JOB_KEPT_MS - now_ms),
            )
        jobs[doc.req] = (doc.created_ms, doc.info)
        return answers.Ok()

    def list_again(self, org: str, req: str, created_ms: int, info: str) -> None:
        """What an earlier life had listed."""
        self.listed[org].setdefault(req, (created_ms, info))

    def page(self, doc: documents.ListJobs) -> tuple[list[tuple[str, str]], bool]:
        """Requests and infos of a page, and whether more follow; see tg1_jobs."""
        jobs = self.listed[doc.org]
        newest = sorted(jobs, key=lambda req: (jobs[req][0], req), reverse=True)
        if doc.after is not None:
            newest = newest[newest.index(doc.after) + 1 :] if doc.after in newest else []
        return [(req, jobs[req][1]) for req in newest[: doc.limit]], len(newest) > doc.limit

    def info(self, org: str, req: str) -> str | None:
        """What is kept of a job; ``None`` when the request is none."""
        job = self.listed[org].get(req)
        return job[1] if job else None
