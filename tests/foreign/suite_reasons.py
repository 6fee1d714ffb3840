"""Why tests of other people's suites do not pass here: each failing one needs a reason of this list. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """Why some tests of a suite fail, known by what they said and where they stand."""

    suite: str
    why: str
    said: str
    """A regular expression that the failure has."""
    tests: str = ""
    """One that the name has."""
    depends: bool = False
    """Whether it depends on the machine or the moment, so that no test may need it elsewhere."""

    def fits(self, name: str, failure: str) -> bool:
        """Whether a failure is one of these."""
        return bool(re.search(self.tests, name) and re.search(self.said, failure))


_OPENAI, _ANTHROPIC = "openai", "anthropic"
_LANGCHAINS = ("langchain-openai", "langchain-anthropic")
_OF_A_MOCK = "the test wants what only the mock of its own specification answers"
REASONS: tuple[Reason, ...] = (
    Reason(
        _OPENAI,
        f"{_OF_A_MOCK}: an id that never was",
        r"There is no such (file|response|batch)|names no response that is kept"
        r"|input_file_id must be a file of this organization",
    ),
    Reason(
        _OPENAI,
        f"{_OF_A_MOCK}: a limit, best_of or max_completion_tokens of 0",
        r"(limit|best_of|max_completion_tokens) must be an integer from 1",
    ),
    Reason(
        _OPENAI, f"{_OF_A_MOCK}: a response without a model", r"model must be a non-empty string"
    ),
    Reason(
        _OPENAI,
        f"{_OF_A_MOCK}: usage since 1970, which nobody here keeps",
        r"start_time must be within the last 40 days",
    ),
    Reason(
        _OPENAI,
        f"{_OF_A_MOCK}: floats where the package itself asked for base64, which its strict client does not take",
        r"Data returned by API invalid for expected schema",
        r"Embeddings::.*(strict|aiohttp)",
    ),
    Reason(
        _OPENAI,
        f"{_OF_A_MOCK}: a place in a stream, and no stream",
        r"starting_after is for streams",
    ),
    Reason(_OPENAI, "usage is kept by model, not by operation (ADR 0174)", r"Usage is not kept as"),
    Reason(_OPENAI, "usage is not kept by batch (ADR 0174)", r"batch is no parameter"),
    Reason(
        _OPENAI,
        "chat completions are not stored under ids: nothing to list, read, change or delete",
        r"There is nothing at /v1/chat/completions/|GET is not allowed on /v1/chat/completions",
    ),
    Reason(
        _OPENAI,
        "responses are not deleted, they are forgotten after 72 hours; models are their operator's",
        r"DELETE is not allowed on /v1/(responses|models)/",
    ),
    Reason(
        _OPENAI,
        "there is no compaction of responses: what a backend does not have is not made up",
        r"POST is not allowed on /v1/responses/compact",
    ),
    Reason(_OPENAI, "files are those of batches, and no others", r"purpose must be one of: batch"),
    Reason(
        _ANTHROPIC,
        f"{_OF_A_MOCK}: models that nobody configured",
        r"The model '(model_id|claude-mythos-preview)' does not exist",
    ),
    Reason(
        _ANTHROPIC,
        f"{_OF_A_MOCK}: a page both before and after an id",
        r"after_id and before_id exclude each other",
    ),
    Reason(
        _ANTHROPIC,
        "there are no containers behind backends of OpenAI's protocol",
        r"container is not possible here",
    ),
    *(
        reason
        for suite in _LANGCHAINS
        for reason in (
            Reason(
                suite,
                "the test fetches a file from the internet, and there is none here",
                r"Name or service not known|Failed to resolve|name resolution",
                depends=True,
            ),
            Reason(
                suite,
                "the test reads a file of its repository that its source at PyPI does not have",
                r"No such file or directory: '.*README\.md'",
            ),
        )
    ),
    Reason(
        "langchain-openai",
        "the package keeps its client's connections from one event loop to the next",
        r"Event loop is closed",
        depends=True,
    ),
    Reason(
        "langchain-openai",
        "the package asks for no usage of a stream where its URL is not OpenAI's own",
        r"assert None is not None",
        "TestOpenAIStandard::test_usage_metadata_streaming",
    ),
    Reason(
        "langchain-openai",
        "files of responses come as file_data: nobody here fetches what a client names",
        r"file_url is not possible here",
    ),
)
"""The first that fits counts."""
