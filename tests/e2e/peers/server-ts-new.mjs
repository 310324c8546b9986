// A server on @modelcontextprotocol/server 2.x with Express, which speaks both eras: PORT [reject]. With `reject` it knows
// 2026-07-28 only.
import { modules } from "./plan.mjs";

const { McpServer, createMcpHandler } = modules("@modelcontextprotocol/server");
const { createMcpExpressApp } = modules("@modelcontextprotocol/express");
const { toNodeHandler } = modules("@modelcontextprotocol/node");
const { z } = modules("zod");

const [port, legacy = "stateless"] = process.argv.slice(2);

function build() {
    const server = new McpServer({ name: "ts-new", version: "1.0.0" });
    const text = (words) => ({ content: [{ type: "text", text: words }] });
    server.registerTool(
        "reverse",
        { description: "Writes a text backwards.", inputSchema: z.object({ text: z.string() }) },
        async ({ text: words }) => text([...words].reverse().join("")),
    );
    server.registerTool("echo", { description: "Says it back.", inputSchema: z.object({ text: z.string() }) }, async (given) =>
        text(given.text),
    );
    server.registerTool(
        "sum",
        {
            description: "Adds numbers.",
            inputSchema: z.object({ numbers: z.array(z.number()) }),
            outputSchema: z.object({ total: z.number() }),
        },
        async ({ numbers }) => {
            const total = numbers.reduce((sum, number) => sum + number, 0);
            return { ...text(`${total}`), structuredContent: { total } };
        },
    );
    server.registerResource("about", `ts-${legacy}://about`, { mimeType: "text/plain" }, async (uri) => ({
        contents: [{ uri: uri.href, mimeType: "text/plain", text: "a server in TypeScript" }],
    }));
    server.registerPrompt(
        "toast",
        { description: "Drinks to somebody.", argsSchema: z.object({ name: z.string() }) },
        async ({ name }) => ({ messages: [{ role: "user", content: { type: "text", text: `To ${name}!` } }] }),
    );
    return server;
}

const app = createMcpExpressApp();
const handle = toNodeHandler(createMcpHandler(build, { legacy }));
app.all("/mcp", (request, response) => handle(request, response, request.body));
app.listen(Number(port), "127.0.0.1");
