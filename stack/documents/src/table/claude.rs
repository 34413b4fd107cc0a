//! What Claude Code tells of itself: the attributes of its events that are documented, and hold nothing of a prompt.

use super::{AGENT, CONTAINER_ID, EVENT_ID, PROJECT};
use crate::{
    Field, Kind, Stream, Strictness,
    field::{WORD, fraction, keyword, number, of},
};

/// An event of Claude Code.
pub const CLAUDE: Stream = Stream {
    name: "clawker-claude",
    title: "Claude Code",
    about: "What Claude Code tells of itself: a document for each of its events. All of it is the agent's claim but whose it is and where it came from, which the lane says. Texts are words, without blanks: of prompts, answers and commands there is nothing.",
    strictness: Strictness::Unsearched,
    fields: FIELDS,
    columns: &[
        "agent",
        "project",
        "event.name",
        "model",
        "tool_name",
        "decision",
        "success",
        "cost_usd",
        "duration_ms",
        "status_code",
    ],
};

const FIELDS: &[Field] = &[
    AGENT,
    PROJECT,
    CONTAINER_ID,
    EVENT_ID,
    of(Kind::Ip, "src_ip", "The address it came from."),
    keyword("claimed.agent", WORD, "Whose it says it is, where it says so: never believed."),
    keyword("claimed.project", WORD, "Of which project it says it is, likewise."),
    keyword("claimed.service_name", WORD, "What it calls itself, `claude-code`."),
    keyword(
        "event.name",
        WORD,
        "user_prompt, tool_result, api_request, api_error, tool_decision, or another.",
    ),
    of(Kind::Date, "event.timestamp", "When, by the agent's clock."),
    number("event.sequence", "", "Counts the events of a session."),
    keyword("session.id", WORD, "The session."),
    keyword("prompt.id", WORD, "The prompt that an event follows from."),
    keyword("app.version", WORD, "Version of Claude Code."),
    keyword("app.entrypoint", WORD, "How it was started: cli, sdk-ts, claude-vscode."),
    keyword("terminal.type", WORD, "What it runs in."),
    keyword("organization.id", WORD, "The account's organization."),
    keyword("user.account_uuid", WORD, "The account."),
    number("prompt_length", "characters", "Of user_prompt: how long it was."),
    keyword("model", WORD, "Of api_request and api_error: the model."),
    keyword("query_source", WORD, "Of api_request: what part of Claude Code asked."),
    keyword("speed", WORD, "Of api_request: normal or fast."),
    keyword("effort", WORD, "Of api_request: low, medium, high, or another."),
    fraction("cost_usd", "US dollars", "Of api_request: its cost, as estimated."),
    fraction("duration_ms", "milliseconds", "Of a request or tool: how long it took."),
    number("input_tokens", "tokens", "Of api_request: read."),
    number("output_tokens", "tokens", "Of api_request: written."),
    number("cache_read_tokens", "tokens", "Of api_request: read from the cache."),
    number("cache_creation_tokens", "tokens", "Of api_request: put into the cache."),
    keyword("request_id", WORD, "Of api_request and api_error: the provider's identifier."),
    // Not the message of a failure: it repeats commands and prompts.
    keyword("error_type", WORD, "Of a failure: its kind."),
    keyword("status_code", WORD, "Of api_error: the answer's code."),
    number("attempt", "", "Of api_error: which attempt it was."),
    keyword("tool_name", WORD, "Of tool_result and tool_decision: the tool."),
    keyword("tool_use_id", WORD, "Of tool_result and tool_decision: which use of it."),
    keyword("tool_source", WORD, "Of tool_decision: builtin or mcp."),
    // Text: the sender writes it so, and what is neither true nor false must not be refused.
    keyword("success", WORD, "Of tool_result: true or false."),
    keyword("decision", WORD, "Of tool_decision: accept or reject."),
    keyword("source", WORD, "Of tool_decision: who decided."),
    keyword("decision_type", WORD, "Of tool_result: as `decision`."),
    keyword("decision_source", WORD, "Of tool_result: as `source`."),
    number("tool_input_size_bytes", "bytes", "Of tool_result: size of what the tool was asked."),
    number("tool_result_size_bytes", "bytes", "Of tool_result: size of what the tool answered."),
];
