// Runs a plan with @modelcontextprotocol/client 2.x: legacy, auto, or pinned to 2026-07-28.
import { perform, modules, plan } from "./plan.mjs";

const { Client, StreamableHTTPClientTransport } = modules("@modelcontextprotocol/client");
const { StdioClientTransport } = modules("@modelcontextprotocol/client/stdio");

const { mode, target, steps } = plan();
const [first, ...rest] = target;
const transport = /^https?:/.test(first)
    ? new StreamableHTTPClientTransport(new URL(first))
    : new StdioClientTransport({ command: first, args: rest, stderr: "inherit" });
const negotiation = { legacy: "legacy", auto: "auto", modern: { pin: "2026-07-28" } }[mode];
const capabilities = steps.answer ? { elicitation: { form: {} } } : {};
const client = new Client({ name: "ts-new-peer", version: "1.0.0" }, { capabilities, versionNegotiation: { mode: negotiation } });
if (steps.answer) {
    client.setRequestHandler("elicitation/create", async () => ({ action: "accept", content: steps.answer }));
}
await client.connect(transport);
await perform(client, steps, client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion);
