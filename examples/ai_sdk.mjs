// The Vercel AI SDK: text with its usage, and text as it comes.
// OPENAI_BASE_URL and OPENAI_API_KEY say where and as whom; TALLYGATE_MODEL names a model.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

const gateway = createOpenAICompatible({
  name: "tallygate",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: process.env.OPENAI_API_KEY,
  includeUsage: true,
});
const model = gateway(process.env.TALLYGATE_MODEL ?? "echo-1");

const { text, usage } = await generateText({ model, prompt: "hello from the edge" });
console.log(text);
console.log(`tokens: ${usage.inputTokens} in, ${usage.outputTokens} out`);

const result = streamText({ model, prompt: "one two three four" });
for await (const piece of result.textStream) process.stdout.write(piece);
console.log();
