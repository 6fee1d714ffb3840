"""The only list of what processes say in their logs: event, level, meaning, and what an operator does.

An event is a fact with fields and no sentence: whoever reads logs by program matches on its name, and
finds a request in all processes by its id. Its name in a line is the member's in lower case. Pure.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, TypedDict

__all__ = ["EventSpec", "LogEvent", "LogFields"]


class LogFields(TypedDict, total=False):
    """The fields of events, beside ``error``, which is the exception's own text.

    Texts are bounded and without control characters once they stand in a line.
    """

    request_id: str
    """The id that the client gets as ``x-request-id``."""
    org: str
    """The organization's id."""
    trace_id: str
    """Of the W3C trace context that the client sent."""
    topic: str
    """Topic of the record or partition."""
    partition: int
    """Its number."""
    offset: int
    """Where the record stands, or what was found there."""
    expected: int
    """The offset, or revision, that should have been found."""
    count: int
    """How many records, calls or marks are meant; or the revision, or scale, itself."""
    size_bytes: int
    """How large it is."""
    backend: str
    """The backend's id."""
    attempt: int
    """Which call for the request, from 1."""
    fence: int
    """The fence of its owner."""
    code: str
    """An error code."""
    state: str
    """Of a backend, or of a request in the ledger."""
    status: int
    """HTTP status of the answer."""
    route: str
    """Public route, as in metrics; or the operation that a record names."""
    method: str
    """HTTP method of the call."""
    path: str
    """Of a file, or of a call."""
    variable: str
    """Name of an environment variable, never its value."""
    what: str
    """Which sum of the ledger: the suffix of a balance, or of an hour of usage."""
    field: str
    """Which of its amounts."""
    ledger: int
    """What the ledger has there."""
    log: int
    """What the log says."""
    entity: str
    """Kind and id of a configured entity."""
    input_tokens: int
    """What a backend said of a request's input."""
    output_tokens: int
    """What it said of its output."""
    tool_calls: int
    """What it said of calls of hosted tools."""
    input_tokens_bound: int
    """The bound of the input that was held."""
    output_tokens_bound: int
    """The bound of the output that was held."""
    cause: str
    """Why, where it is no exception."""
    step: str
    """Which part of the process; one of a few words that stand in its code."""
    store: str
    """Host of a store."""
    port: int
    """Its port."""
    channel: str
    """Channel of the bus."""
    age_s: float
    """For how long it has been unfinished."""
    pause_s: float
    """When it is tried again."""
    step_ms: int
    """How far a clock was moved."""
    settings: dict[str, str]
    """What the process was told; secrets are masked."""
    audit: str
    """An audit event, whole, as JSON."""
    batch_id: str
    """The id of a batch."""
    message_id: str
    """The id of a webhook's message, as its receiver gets it."""
    text: str
    """What a library said, or a backend where that is asked for."""


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One event."""

    level: int
    meaning: str
    action: str
    """What an operator does."""
    is_evidence: bool = False
    """Whether every line of it is written, and whole."""


_NOTHING: Final = "Nothing."
_PASSES: Final = "Nothing while it passes; if it lasts, see `tallygate doctor`."
_REPORT: Final = "Report it with its traceback: it is a defect of this program."
_REQUEST: Final = "See `tallygate requests show` of its id."
_KAFKA: Final = "See the brokers' logs and disks."
_STORE: Final = "See the store's log and the network to it."
_BACKEND: Final = "See `tallygate backends` and the backend's own log."
_CONFIG: Final = "See `tallygate config` and who wrote the entry last."


def _info(meaning: str, action: str = _NOTHING) -> EventSpec:
    return EventSpec(logging.INFO, meaning, action)


def _warning(meaning: str, action: str = _PASSES) -> EventSpec:
    return EventSpec(logging.WARNING, meaning, action)


def _error(meaning: str, action: str = _REPORT) -> EventSpec:
    return EventSpec(logging.ERROR, meaning, action)


def _critical(meaning: str, action: str = _REPORT) -> EventSpec:
    return EventSpec(logging.CRITICAL, meaning, action)


@unique
class LogEvent(Enum):
    """What a process may say."""

    FOREIGN = _warning("A library said something; its text is no contract.")

    # A process
    SETTINGS = _info("What the process was told by its environment, without secrets.")
    TIMES_DIVIDED = _warning("This is a test stack: all times are divided by the count.", _NOTHING)
    NOT_REACHED = _warning("What it needs is away at its start, and is tried again in a second.")
    CANNOT_START = _error("What it needs is away at start; it exits with 69.", _PASSES)
    TASK_ENDED = _error("Background work ended, and is begun again after the pause.")
    ROUND_DEFECT = _error("A round of background work met a defect; the next one begins anew.")
    ROUND_WAITS = _warning("A round of background work met what is away; the next one tries again.")
    CLOCK_STEPPED = _warning("A measured clock was moved.", "See how its host keeps time.")
    PROCESS_STUCK = _critical(
        "A record is unfinished without a cause; the process ends and reads on."
    )
    PROCESS_ENDS = _critical("What no boundary contains ends the process, which reads again.")
    HANDED_OVER = _info("The partitions were given to another member of the group.")
    NOT_HANDED_OVER = _info("The process stops with its partitions, alone or out of time.")

    SPANS_NOT_TAKEN = _warning(
        "The receiver of traces is away; spans wait within a bound, and are dropped above it. Requests do not notice.",
        "See the collector at OTEL_EXPORTER_OTLP_ENDPOINT and the network to it.",
    )
    SPANS_TAKEN_AGAIN = _info("The receiver of traces is back; so many spans were dropped so far.")
    SPANS_REFUSED = _warning(
        "The receiver of traces refuses spans; told once until it answers otherwise.",
        "See the collector's log, and the headers and the address that it is called with.",
    )

    CALL_UNAVAILABLE = _warning("An operator's call met what is away, and was answered so.")
    CERTIFICATE_NOT_LOADED = _error(
        "The files of the admin port's certificate changed and cannot be used; the former one stays in use.",
        "Put a certificate and its own key there; each change is looked at once.",
    )

    # Kafka
    OFFSET_GAP = _critical("Records were skipped; the process ends and reads them again.")
    RECORDS_GONE = _error(
        "Retention removed records before they were read.", "Raise the retention."
    )
    PARTITION_HELD = _error("A partition stands still until its cause is gone.", "Mend the cause.")
    BATCH_FAILED = _error("A batch failed and is taken apart, to find the record at fault.")
    RECORD_DEFECT = _error("A record cannot be handled and becomes a dead letter.")
    COMMIT_FAILED = _warning("Offsets were not committed; the next commit has them.")
    PRODUCER_WAITS = _warning("No new producer can be connected yet.", _KAFKA)
    PRODUCER_RENEWED = _warning("The broker refused a batch; the producer was made new.", _KAFKA)
    PRODUCER_NOT_STOPPED = _warning("An old producer did not stop in time and was given up.")
    PRODUCED_AGAIN = _info("A batch goes to the new producer, because the old one was closed.")
    PRODUCE_DEFECT = _error("A batch met a defect; its records failed and are produced again.")
    RESULT_LOST = _warning("The log keeps a result no more; its outcome stands.", _REQUEST)
    RESULT_DIFFERS = _error("A result in the log is not the one that was kept.", _REQUEST)

    BUDGET_SERVICE_SILENT = _warning(
        "The external budget service does not answer for an organization; its policy holds (`state`).",
        "See the budget service and the network to it.",
    )
    BUDGET_SERVICE_ANSWERS = _info("The external budget service answers again.")
    SPEND_REFUSED = EventSpec(
        logging.ERROR,
        "The external budget service refused a spend line for good (`status`): it was passed over.",
        "See why in the service's own log, and enter it there.",
        is_evidence=True,
    )
    WEBHOOK_GIVEN_UP = _warning(
        "A webhook's message was not taken after so many tries (`count`).",
        "See `tallygate webhooks list`; once its receiver is back, `tallygate webhooks redeliver`.",
    )
    WEBHOOK_UNREADABLE = _error(
        "A record of a topic of webhooks cannot be read: it was passed over.", _REPORT
    )
    AUDIT_NOT_TAKEN = _warning(
        "Kafka did not take audit events in time; each follows here.", _KAFKA
    )
    AUDIT_EVENT = EventSpec(
        logging.WARNING,
        "An audit event that Kafka did not take: this line is all there is of it.",
        "Collect it for the auditors.",
        is_evidence=True,
    )

    # Requests on their way
    REQUEST_DEFECT = _error("A defect met one request, which ends alone.")
    NO_DEAD_LETTER = _error("A record at fault is no dead letter.", "Look at it where it stands.")
    READ_AGAIN = _error("A request cannot be ended now; its record is read again.", _PASSES)
    NO_OUTCOME = _error("A request got no outcome here; what it holds is reaped.", _REQUEST)
    NO_DECISION = _error("The ledger cannot decide on a request, which fails.", _REQUEST)
    FOLLOW_UPS_AGAIN = _warning("Records of decisions were not acknowledged; they are sent again.")
    OUTCOME_WAITS = _warning("The outcome of a reaped request is made again by the next round.")
    REPLY_DROPPED = _warning("A client gets no reply from here, but what ledger or log know.")
    NOT_ANSWERED = _error("An answer cannot be sent; its client is told that it is lost.")
    NOT_TOLD_AGAIN = _warning("A client that asks again is told nothing: it cannot be read now.")
    FRAMES_UNKNOWN = _warning("The bus does not tell which frames a client has.")
    FRAMES_LOST = _error(
        "Frames do not get to the bus; their client hears that some are lost.", _STORE
    )
    OPERATION_UNKNOWN = _error("A newer version accepted a request.", "Update this process.")
    BODY_LOST = _error("A request's body is nowhere any more; it ends as body_lost.", _REQUEST)
    RESULT_NOT_KEPT = _error("An outcome is kept without its result or its texts.", _REQUEST)
    ENDED_ELSEWHERE = _warning("A request that failed here was ended by another process.", _NOTHING)
    ATTEMPTS_ATTACHED = _info("A ledger that was rebuilt was told what runs here.")
    CONFIG_ENTRY_FORGED = _warning(
        "A record of the configuration log is signed by nobody who may write; it has no effect.",
        "Find out who writes to `config.entries.v1`; then `tallygate config sign`, which writes again what is in force.",
    )
    CONFIG_ENTRY_KEPT = _warning(
        "The configuration log has lost an entry that was in force, or has an older one; the process keeps it.",
        "`tallygate config sign` writes again what is in force.",
    )
    ATTEMPT_LATE = _warning("An attempt ended after its lease; its real use is booked.", _NOTHING)
    ATTEMPT_DEFECT = _error("A defect ended one attempt, which may have spent.")
    USAGE_ABOVE_BOUND = _error(
        "A backend says it used more than the proved bound that was held; its model holds more from now on.",
        "Set its `context_window_tokens` and `input_overhead_tokens`, or see why it heeds no limit.",
    )
    TOKENS_ROUGH = _warning("The tokenizer failed: a text is counted by its bytes.", _REPORT)
    TOKENIZER_UNUSABLE = _warning(
        "A model's tokenizer file cannot be used: its texts are counted by their bytes.",
        "Put the file with the model's `tokenizer_sha256` into `TALLYGATE_TOKENIZERS_DIR` of every ingress, "
        "and install `tallygate[tokenizers]`; it is looked for again within a minute.",
    )
    BATCH_DEFECT = _error("A batch met a defect; it is begun again where it was left.")
    BATCH_LINES_WAIT = _info(
        "All lines of a batch that are under way wait to be tried again, because of what refused the last: no backend, a limit or an overload.",
        "See `tallygate audit list --org ORG`, or the backends of its model; they are tried until the batch expires.",
    )
    BATCH_LINE_DEFECT = _error("A line of a batch met a defect, and ended with that; others go on.")
    FILES_AWAY = _warning(
        "The store of files did not do what it was asked for; a client was answered 503, or its download ended early.",
        "See the folder or bucket at TALLYGATE_FILES_URL: whether it is there, full, or not permitted.",
    )
    ANSWERED_5XX = _error("A request was answered with a status of 500 or above.", _REQUEST)
    GIVEN_UP = _warning("The process stops and gives up requests that run on.", _NOTHING)
    WAIT_DEFECT = _error("A defect met one waiting request; its neighbours go on.")
    FRAME_MALFORMED = _error("A message on the bus is no frame, and is dropped.")
    END_UNKNOWN = _warning("How a silent request ended cannot be told now; it is asked again.")
    END_NOT_HEARD = _warning("A request's end was found in ledger or log, and not heard.", _STORE)
    KEY_NOT_RELEASED = _warning("An idempotency key stays claimed until its claim lapses.")
    CANCEL_NOT_HEARD = _warning(
        "No dispatcher heard of a cancellation; it sees it later.", _NOTHING
    )
    NOT_CANCELLED = _warning("A request whose client left runs on to its end.", _NOTHING)
    REPLY_DEFECT = _error("A reply cannot be encoded and is dropped.")

    # Backends
    ATTEMPT_FAILED = _info("A backend failed a call; another may be tried.", _BACKEND)
    DIALECT_LEARNED = _info(
        "A backend refused a field that calls may carry, and took the call without it; so it is asked from now on.",
        "To spare the first try: `tallygate models set NAME --output-limit-field FIELD`, or `stream_options: false` "
        "of the backend.",
    )
    BACKEND_STATE = _info("What is told of a backend changed.", _BACKEND)
    BACKEND_SAID = _info(
        "What a backend said when it refused; only where that is asked for.", _BACKEND
    )
    PROBE_FAILED = _warning("A backend gave no sign of life.", _BACKEND)
    KEY_UNUSABLE = _error(
        "A variable holds no key that a header can carry; its backends fail.", "Set the variable."
    )

    # Books
    ROWS_LOOKED_UP = _info("Old outcomes were looked up in the log, so that each is booked once.")
    SHARD_OF_ANOTHER_LOG = _error(
        "A shard of the ledger knows another log than the one here, and decides nothing.",
        "Restore the log, or have the shard made again from what there is: tallygate ledger rebuild.",
    )
    SHARD_CLOSED = _warning("A shard of the ledger decides nothing until its owner has rebuilt it.")
    BOOKS_DIFFER = _error(
        "Verification found that a sum of the ledger is not that of the log; a request explains it.",
        "See `tallygate ledger verify`, then the request by its id.",
    )
    BOOKS_AGREE = _info("A shard of the ledger that differed from the log equals it again.")
    OUTCOME_PRODUCED_AGAIN = _warning("What was settled was not in the log: produced again.")
    REBUILD_BEGUN = _warning(
        "A shard of the ledger is rebuilt from the log; until then it is closed.", _NOTHING
    )
    REBUILD_READY = _info("A shard of the ledger decides again.")
    REBUILD_COMPLETE = _info("Nothing of a shard's rebuild is left to do.")
    REBUILD_OVERTAKEN = _warning(
        "Another process rebuilds the shard: what was written here is void."
    )

    # Callers whom somebody outside vouches for
    ISSUER_READ = _info("The keys of an identity provider were read, for the first time or again.")
    ISSUER_AWAY = _warning(
        "The keys of an identity provider cannot be read; the last good set holds for a day.",
        "See whether ingress reaches its discovery document, and what the cause says of it.",
    )
    KEY_SET_NOT_KEPT = _warning(
        "The keys of an identity provider were not written to disk; a restart reads them anew.",
        "See the disk under `TALLYGATE_DATA_DIR`.",
    )
    USER_ORG_AWAY = _warning(
        "The user-org service cannot be asked, or its answer is not as its contract says; what it said last holds "
        "for a while, then its callers get 503.",
        "See the service's own log; docs/callers.md says what it must answer.",
    )
    USER_ORG_BACK = _info("The user-org service answers again.")

    # Configuration
    CONFIG_LOG_AWAY = _warning("The config log cannot be read; the last known copy stays.")
    CONFIG_DEFECT = _error("Following the config log met a defect; it is read again.")
    CONFIG_LISTENER_DEFECT = _error("Part of the process could not take a new configuration over.")
    CONFIG_SHORTER = _error(
        "The config log ends below what was in force, which stays.",
        "Restore the log, or accept it with `tallygate config adopt`.",
    )
    CONFIG_SHORTER_ACCEPTED = _warning("The shorter config log was accepted.", _NOTHING)
    CONFIG_NEWER = _error(
        "A newer version wrote into the config log; what stands before that stays.",
        "Update this process.",
    )
    CONFIG_ENTRY_REFUSED = _error("An entry cannot be used; its entity is closed.", _CONFIG)
    LEASE_NOT_RELEASED = _warning("The configuration's lease was not given back; it lapses.")
    CONFIG_COPY_UNREADABLE = _error(
        "The copy on disk is not used; it is replaced once the log is read.", "See the disk."
    )
    CONFIG_COPY_NOT_KEPT = _warning(
        "No copy could be written; the older one stays.", "See the disk."
    )

    # Stores
    STORE_SILENT = _warning("A store does not answer; the connection is made new.", _STORE)
    STORE_MOVED = _warning(
        "A store's address leads to another server by now; the connection is made new.", _STORE
    )
    CLUSTER_UNREAD = _warning(
        "A store's servers were not asked who serves what, or one did not let us in; asked again.",
        _STORE,
    )
    STORE_BROKE_PROTOCOL = _error(
        "A store answered what is no answer; it is connected anew.", _STORE
    )
    MESSAGE_DEFECT = _error("A message of a channel was not understood, and is dropped.")
    BODY_NOT_ON_BUS = _warning("The bus did not put, get or drop a large body; the log has it.")
    FUNCTIONS_NEWER = _error(
        "The ledger has functions of a newer revision.", "Update this process."
    )
    LEDGER_TIME_UNREAD = EventSpec(logging.DEBUG, "The ledger's time was not read.", _PASSES)
