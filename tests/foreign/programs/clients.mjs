// openai-node and the Vercel AI SDK through the gateway: a line of JSON for each case. GATEWAY_URL, GATEWAY_KEY.
import OpenAI from "openai";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, streamText, tool } from "ai";

const baseURL = process.env.GATEWAY_URL, apiKey = process.env.GATEWAY_KEY;
const messages = [{ role: "user", content: "hi" }];
const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];

async function show(client, name, saw) {
  let told;
  try { told = await saw(); } catch (error) { told = named(error); }
  console.log(JSON.stringify({ client, case: name, saw: told ?? null }));
}
function named(error) {
  const cause = error.lastError ?? error;
  const status = cause.status ?? cause.statusCode;
  const code = cause.code ?? cause.data?.error?.code ?? null;
  return status ? `${error.name === "Error" ? error.constructor.name : error.name} ${status} ${code}` : `${error.constructor.name} ${error.message}`;
}

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 30000 });
const ask = (model, more = {}, maxRetries = 0) => client.chat.completions.create({ model: `fake-${model}`, messages, ...more }, { maxRetries });
async function stream(model, more = {}) {
  let text = "", total = null;
  for await (const chunk of await ask(model, { stream: true, ...more })) { text += chunk.choices[0]?.delta?.content ?? ""; total = chunk.usage?.total_tokens ?? total; }
  return [text, total];
}
const whole = (answer) => [answer.choices[0].message.content, answer.usage.total_tokens];
const call = (answer) => [answer.choices[0].finish_reason, JSON.parse(answer.choices[0].message.tool_calls[0].function.arguments)];
const N = "openai-node";
await show(N, "sync", async () => whole(await ask("plain")));
await show(N, "stream", () => stream("plain"));
await show(N, "stream usage", () => stream("plain", { stream_options: { include_usage: true } }));
await show(N, "stream without [DONE]", () => stream("without-done"));
await show(N, "tools", async () => call(await ask("tools", { tools })));
await show(N, "tools in a stream", async () => call(await client.chat.completions.stream({ model: "fake-tools", messages, tools }).finalChatCompletion()));
await show(N, "n=2", async () => (await ask("plain", { n: 2 })).choices.length);
await show(N, "reasoning", async () => (await ask("reasoning")).choices[0].message.reasoning_content);
await show(N, "bad value", () => ask("hot", { temperature: 2 }));
await show(N, "too long", () => ask("too-long"));
await show(N, "rate limit", () => ask("tired"));
await show(N, "retry of a 429", async () => whole(await ask("tired-once", {}, 3)));
await show(N, "retry of a 500", async () => whole(await ask("broken-once", {}, 3)));
await show(N, "no such model", () => ask("nowhere"));
await show(N, "bad key", () => new OpenAI({ baseURL, apiKey: "tg_live_no", maxRetries: 0 }).chat.completions.create({ model: "fake-plain", messages }));
await show(N, "breaks off", () => stream("breaks-off"));
await show(N, "cancel", async () => { const s = await ask("slow", { stream: true }); let n = 0; for await (const _ of s) if (++n >= 3) break; return "left"; });

const weather = { weather: tool({ description: "d", inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } } }) }) };
async function sdk(A, of) {
  const text = (model, more = {}) => generateText({ model: of(`fake-${model}`), prompt: "hi", maxRetries: 0, ...more });
  async function streamed(model, more = {}) {
    let wrong = null;
    const result = streamText({ model: of(`fake-${model}`), prompt: "hi", maxRetries: 0, onError: ({ error }) => { wrong = error; }, ...more });
    let said = "";
    for await (const piece of result.textStream) said += piece;
    if (wrong) throw wrong;
    return { said, result };
  }
  await show(A, "sync", async () => { const r = await text("plain", { maxOutputTokens: 20 }); return [r.text, r.usage.totalTokens]; });
  await show(A, "stream usage", async () => { const { said, result } = await streamed("plain"); return [said, (await result.usage).totalTokens]; });
  await show(A, "stream without [DONE]", async () => (await streamed("without-done")).said);
  await show(A, "tools", async () => { const r = await text("tools", { tools: weather }); return [r.finishReason, r.toolCalls[0].input]; });
  await show(A, "tools in a stream", async () => { const { result } = await streamed("tools", { tools: weather }); return [await result.finishReason, (await result.toolCalls)[0].input]; });
  await show(A, "bad value", () => text("hot", { temperature: 2 }));
  await show(A, "too long", () => text("too-long"));
  await show(A, "rate limit", () => text("tired"));
  await show(A, "retry of a 429", async () => { const r = await text("tired-once", { maxRetries: 3 }); return [r.text, r.usage.totalTokens]; });
  await show(A, "retry of a 500", async () => { const r = await text("broken-once", { maxRetries: 3 }); return [r.text, r.usage.totalTokens]; });
  await show(A, "no such model", () => text("nowhere"));
  await show(A, "breaks off", async () => { try { return (await streamed("breaks-off")).said; } catch (error) { return `${error.constructor.name} ${error.message}`; } });
  await show(A, "cancel", async () => {
    const stop = new AbortController();
    const result = streamText({ model: of("fake-slow"), prompt: "hi", maxRetries: 0, abortSignal: stop.signal, onError: () => {} });
    let n = 0;
    for await (const _ of result.textStream) if (++n >= 3) stop.abort();
    return "left";
  });
}
const compatible = createOpenAICompatible({ name: "gateway", baseURL, apiKey, includeUsage: true });
const openai = createOpenAI({ baseURL, apiKey });
await sdk("ai-sdk openai-compatible", (model) => compatible(model));
await sdk("ai-sdk openai", (model) => openai.chat(model));
