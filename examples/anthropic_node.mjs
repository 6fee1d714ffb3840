// A message and a streamed one with the anthropic SDK for Node.
// ANTHROPIC_BASE_URL (the gateway's address, without /v1) and ANTHROPIC_API_KEY say where and as whom; TALLYGATE_MODEL names a model.
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic();
const model = process.env.TALLYGATE_MODEL ?? "echo-1";
const ask = (content) => ({ model, max_tokens: 100, messages: [{ role: "user", content }] });

const message = await client.messages.create(ask("hello from node"));
console.log(message.content[0].text);
console.log(`tokens: ${message.usage.input_tokens} in, ${message.usage.output_tokens} out`);

const stream = client.messages.stream(ask("one two three four"));
stream.on("text", (text) => process.stdout.write(text));
console.log(`\nended: ${(await stream.finalMessage()).stop_reason}`);
