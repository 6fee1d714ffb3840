// A streamed chat completion with the openai SDK for Node, and its usage in the last chunk.
// OPENAI_BASE_URL and OPENAI_API_KEY say where and as whom; TALLYGATE_MODEL names a model.
import OpenAI from "openai";

const client = new OpenAI();
const chunks = await client.chat.completions.create({
  model: process.env.TALLYGATE_MODEL ?? "echo-1",
  messages: [{ role: "user", content: "hello from node" }],
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of chunks) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
  if (chunk.usage) console.log(`\ntokens: ${chunk.usage.prompt_tokens} in, ${chunk.usage.completion_tokens} out`);
}
