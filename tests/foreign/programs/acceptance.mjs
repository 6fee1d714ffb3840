// What clients in Node see of the numbered items of acceptance: a line of JSON for each. The environment says where and with which keys.
import OpenAI, { toFile } from "openai";
import Anthropic from "@anthropic-ai/sdk";
import { strict as assert } from "node:assert";
import { randomUUID } from "node:crypto";

const env = process.env, baseURL = env.GATEWAY_URL, model = "fake-1", root = baseURL.replace(/\/v1$/, "");
const openai = (key = "GATEWAY_KEY", maxRetries = 0) => new OpenAI({ baseURL, apiKey: env[key], maxRetries, timeout: 30000 });
const claude = (key = "GATEWAY_KEY", maxRetries = 0) => new Anthropic({ baseURL: root, apiKey: env[key], maxRetries, timeout: 30000 });
const client = openai();
const steer = (behaviour) => JSON.stringify({ fake: behaviour });
const ask = (content, more = {}) => ({ model, messages: [{ role: "user", content }], ...more });
const message = (content) => ask(content, { max_tokens: 500 });
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const words = (text) => text.split(/\s+/).filter(Boolean);
const known = (id) => client.get(`/requests/${id}`);

async function item(number, what, check) {
  let saw = "ok";
  try { await check(); } catch (error) { saw = `${error.constructor.name}: ${error.message}`; }
  console.log(JSON.stringify({ item: number, what, saw }));
}
async function caught(kind, call) {
  try { await call(); } catch (error) { assert(error instanceof kind, `${error.constructor.name} for ${kind.name}: ${error.message}`); return error; }
  assert.fail(`no ${kind.name}`);
}
async function until(seconds, probe) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(300)) { const found = await probe(); if (found) return found; }
  assert.fail(`not within ${seconds} s`);
}
async function streamed(body) {
  const chunks = [];
  for await (const chunk of await client.chat.completions.create({ ...body, stream: true })) chunks.push(chunk);
  return chunks;
}
async function answered402() {
  const page = await (await fetch(`${root}/metrics`)).text();
  const counts = page.split("\n").filter((line) => line.startsWith("tallygate_requests_total{") && line.includes('status="402"'));
  return counts.reduce((sum, line) => sum + Number(line.split(" ").pop()), 0);
}
async function oneCall(kind, create) {
  const before = await answered402();
  const error = await caught(kind, create);
  assert.equal(error.status, 402);
  assert.equal(error.headers.get("x-should-retry"), "false");
  assert.equal(await answered402() - before, 1);
}

await item(1, "chat", async () => {
  const answer = await client.chat.completions.create(ask("the quick brown fox"));
  assert.equal(words(answer.choices[0].message.content).length, answer.usage.completion_tokens);
});
await item(1, "stream without include_usage", async () => {
  const chunks = await streamed(ask(steer({ chunks: 4, output_tokens: 8 })));
  assert(chunks.every((chunk) => chunk.choices.length && !chunk.usage));
});
await item(1, "stream with include_usage", async () => {
  const last = (await streamed(ask(steer({ chunks: 4, output_tokens: 8 }), { stream_options: { include_usage: true } }))).at(-1);
  assert.deepEqual([last.choices, last.usage.completion_tokens], [[], 8]);
});
await item(1, "completions", async () => {
  assert((await client.completions.create({ model, prompt: "one two", max_tokens: 5 })).choices[0].text);
});
await item(1, "embeddings, base64 and float", async () => {
  const input = ["one", "two"];
  const unasked = await client.embeddings.create({ model, input });
  const floats = await client.embeddings.create({ model, input, encoding_format: "float" });
  assert.deepEqual(unasked.data.map((each) => [...each.embedding]), floats.data.map((each) => [...each.embedding]));
});
await item(1, "models", async () => {
  const names = [];
  for await (const each of client.models.list()) names.push(each.id);
  assert(names.includes(model));
});
await item(1, "response in the background", async () => {
  const begun = await client.responses.create({ model, input: "hello there", background: true });
  assert.equal(begun.status, "queued");
  const ended = await until(30, async () => { const r = await client.responses.retrieve(begun.id); return !["queued", "in_progress"].includes(r.status) && r; });
  assert.equal(ended.status, "completed");
  assert(ended.output_text);
});
await item(1, "files and batches", async () => {
  const line = JSON.stringify({ custom_id: "a", method: "POST", url: "/v1/chat/completions", body: ask("hi") });
  const file = await client.files.create({ file: await toFile(Buffer.from(line), "in.jsonl"), purpose: "batch" });
  assert.equal(await (await client.files.content(file.id)).text(), line);
  const begun = await client.batches.create({ input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" });
  const batch = await until(60, async () => { const b = await client.batches.retrieve(begun.id); return b.status === "completed" && b; });
  const results = await (await client.files.content(batch.output_file_id)).text();
  assert.equal(JSON.parse(results.trim()).custom_id, "a");
});
await item(1, "usage and costs", async () => {
  const usage = new OpenAI({ baseURL, adminAPIKey: env.GATEWAY_KEY }).admin.organization.usage;
  const start_time = Math.floor(Date.now() / 1000) - 86400;
  const results = (page) => page.data.flatMap((bucket) => bucket.results);
  await until(20, async () => results(await usage.completions({ start_time, group_by: ["model"] })).some((each) => each.num_model_requests >= 5));
  const costs = results(await usage.costs({ start_time }));
  assert(costs[0].amount.value > 0 && costs[0].amount.currency === "usd");
});
await item(3, "backend killed in mid-stream", async () => {
  const body = ask(steer({ chunks: 200, output_tokens: 200, delay_ms: 50 }), { model: env.VICTIM_MODEL, stream: true });
  const { data, response } = await client.chat.completions.create(body).withResponse();
  let said = 0;
  const error = await caught(OpenAI.APIError, async () => {
    for await (const chunk of data) { said += words(chunk.choices[0].delta.content ?? "").length; if (said === 10) process.kill(Number(env.VICTIM_PID), "SIGKILL"); }
  });
  const told = await known(response.headers.get("x-request-id"));
  assert.equal(error.code, "upstream_interrupted");
  assert.deepEqual(told.attempts.map((each) => each.status), ["interrupted"]);
  assert.equal(told.usage.completion_tokens, said);
});
await item(4, "refused stream is a real 429", async () => {
  const rated = openai("RATED_KEY");
  for await (const _ of await rated.chat.completions.create(ask("first", { stream: true })));
  const error = await caught(OpenAI.RateLimitError, () => rated.chat.completions.create(ask("second", { stream: true })));
  const [ms, s] = ["retry-after-ms", "retry-after"].map((name) => Number(error.headers.get(name)));
  assert(ms > 0 && ms <= 1000 * s);
});
await item(5, "spent budget is one call", () => oneCall(OpenAI.APIError, () => openai("SPENT_KEY", 5).chat.completions.create(ask("dear"))));
await item(6, "one idempotency key", async () => {
  const key = randomUUID(), body = ask(steer({ delay_ms: 1500, output_tokens: 3 }));
  const first = client.chat.completions.create(body, { headers: { "Idempotency-Key": key } });
  await sleep(500);
  const headers = { "Idempotency-Key": `"${key}"`, Prefer: "wait=0" };
  const error = await caught(OpenAI.ConflictError, () => client.chat.completions.create(body, { headers }));
  assert.equal(error.code, "idempotency_in_flight");
  const again = await openai("GATEWAY_KEY", 5).chat.completions.create(body, { headers });
  assert.equal(again.id, (await first).id);
  await caught(OpenAI.UnprocessableEntityError, () => client.chat.completions.create(ask("other"), { headers: { "Idempotency-Key": key } }));
});
await item(7, "202 only for who prefers it", async () => {
  const body = ask(steer({ delay_ms: 1500, output_tokens: 2 }));
  const promised = await client.chat.completions.create(body, { headers: { Prefer: "respond-async, wait=0" } }).asResponse();
  assert.deepEqual([promised.status, promised.headers.get("preference-applied")], [202, "respond-async"]);
  assert((await client.get(promised.headers.get("location").replace(/^\/v1/, ""))).id);
  assert.equal((await client.chat.completions.create(body).asResponse()).status, 200);
});
await item(8, "one id", async () => {
  const answer = await client.chat.completions.create(ask("hello"));
  assert(answer._request_id);
  assert.equal((await known(answer._request_id)).status, "completed");
  assert((await caught(OpenAI.NotFoundError, () => client.models.retrieve("nope"))).requestID);
});
await item(9, "form of errors", async () => {
  const cases = [
    [OpenAI.BadRequestError, () => client.chat.completions.create(ask("x", { max_tokens: -1 }))],
    [OpenAI.AuthenticationError, () => new OpenAI({ baseURL, apiKey: "tg_live_no", maxRetries: 0 }).models.list()],
    [OpenAI.NotFoundError, () => client.files.retrieve("file-nope")],
    [OpenAI.InternalServerError, () => client.chat.completions.create(ask(steer({ mode: "500" })))],
  ];
  for (const [kind, call] of cases) {
    const { error } = await caught(kind, call);
    assert.deepEqual(["message", "type", "param", "code"].filter((name) => !(name in error)), []);
  }
});
await item(2, "messages.create", async () => {
  const answer = await claude().messages.create(message("the quick brown fox"));
  assert.equal(words(answer.content[0].text).length, answer.usage.output_tokens);
});
await item(2, "messages.stream", async () => {
  const final = await claude().messages.stream(message(steer({ chunks: 4, output_tokens: 8 }))).finalMessage();
  assert.deepEqual([words(final.content[0].text).length, final.usage.output_tokens], [8, 8]);
});
await item(2, "error in mid-stream", async () => {
  const stream = claude().messages.stream(message(steer({ mode: "reset", chunks: 4, output_tokens: 8 })));
  const error = await caught(Anthropic.APIError, () => stream.finalMessage());
  assert(JSON.stringify(error.error).includes("upstream_interrupted"));
});
await item(2, "402", () => oneCall(Anthropic.APIError, () => claude("SPENT_KEY", 5).messages.create(message("dear"))));
await item(2, "429", async () => {
  const rated = claude("RATED_KEY_2");
  await rated.messages.create(message("first"));
  const error = await caught(Anthropic.RateLimitError, () => rated.messages.create(message("second")));
  assert.equal(error.error.error.type, "rate_limit_error");
});
await item(2, "529", async () => {
  const error = await caught(Anthropic.APIError, () => claude().messages.create({ ...message(steer({ mode: "529" })), model: "claude-fake" }));
  assert.equal(error.error.error.type, "overloaded_error");
});
