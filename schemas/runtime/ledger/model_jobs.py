"""The list of jobs in plain Python; like all of the model it forgets nothing."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from schemas.runtime.ledger import answers, documents


@dataclass
class Jobs:
    """Per organization: request to (time of creation, info)."""

    listed: dict[str, dict[str, tuple[int, str]]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, doc: documents.Job) -> answers.Ok:
        """See tg1_job."""
        self.listed[doc.org][doc.req] = (doc.created_ms, doc.info)
        return answers.Ok()

    def page(self, doc: documents.ListJobs) -> answers.Jobs:
        """See tg1_jobs."""
        jobs = self.listed[doc.org]
        newest = sorted(jobs, key=lambda req: (jobs[req][0], req), reverse=True)
        if doc.after is not None:
            newest = newest[newest.index(doc.after) + 1 :] if doc.after in newest else []
        entries = tuple(answers.JobEntry(req=req, info=jobs[req][1]) for req in newest[: doc.limit])
        return answers.Jobs(entries=entries, more=len(newest) > doc.limit)

    def info(self, org: str, req: str) -> str | None:
        """What is kept of a job; ``None`` when the request is none."""
        job = self.listed[org].get(req)
        return job[1] if job else None
