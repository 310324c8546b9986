// Runs a plan with @modelcontextprotocol/sdk 1.x, which knows only the revisions with sessions.
import { perform, modules, plan } from "./plan.mjs";

const { Client } = modules("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = modules("@modelcontextprotocol/sdk/client/streamableHttp.js");
const { SSEClientTransport } = modules("@modelcontextprotocol/sdk/client/sse.js");
const { StdioClientTransport } = modules("@modelcontextprotocol/sdk/client/stdio.js");

const { mode, target, steps } = plan();
if (mode !== "legacy") throw new Error(`this SDK has no mode ${mode}`);
const [first, ...rest] = target;
const overHttp = (url) => (url.pathname.endsWith("/sse") ? new SSEClientTransport(url) : new StreamableHTTPClientTransport(url));
const transport = /^https?:/.test(first)
    ? overHttp(new URL(first))
    : new StdioClientTransport({ command: first, args: rest, stderr: "inherit" });
const client = new Client({ name: "ts-old-peer", version: "1.0.0" });
await client.connect(transport);
await perform(client, steps, transport.protocolVersion ?? null);
