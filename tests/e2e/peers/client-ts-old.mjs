// Runs a plan with @modelcontextprotocol/sdk 1.x, which knows only the revisions with sessions.
import { filled, perform, modules, plan } from "./plan.mjs";

const { Client } = modules("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = modules("@modelcontextprotocol/sdk/client/streamableHttp.js");
const { StdioClientTransport } = modules("@modelcontextprotocol/sdk/client/stdio.js");

const { CreateMessageRequestSchema, ElicitRequestSchema, ListRootsRequestSchema } = modules("@modelcontextprotocol/sdk/types.js");

const { mode, target, steps } = plan();
if (mode !== "legacy") throw new Error(`this SDK has no mode ${mode}`);
const [first, ...rest] = target;
const transport = /^https?:/.test(first)
    ? new StreamableHTTPClientTransport(new URL(first))
    : new StdioClientTransport({ command: first, args: rest, stderr: "inherit" });
const capabilities = steps.answers ? { elicitation: {}, sampling: {}, roots: {} } : {};
const client = new Client({ name: "ts-old-peer", version: "1.0.0" }, { capabilities });
if (steps.answers) {
    client.setRequestHandler(ElicitRequestSchema, ({ params }) => ({ action: "accept", content: filled(params.requestedSchema) }));
    client.setRequestHandler(CreateMessageRequestSchema, ({ params }) => {
        const said = { type: "text", text: `model: ${params.messages[0].content.text}` };
        return { role: "assistant", content: said, model: "none", stopReason: "endTurn" };
    });
    client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: [{ uri: "file:///peer", name: "peer" }] }));
}
await client.connect(transport);
await perform(client, steps, transport.protocolVersion);
