// Plays the `client` scenarios of the conformance suite: [--mode legacy|modern] URL. Without a mode it speaks the revision
// that the suite asks for.
import { parseArgs } from "node:util";
import { modules } from "./plan.mjs";

const { Client, StreamableHTTPClientTransport } = modules("@modelcontextprotocol/client");

const { values, positionals } = parseArgs({ options: { mode: { type: "string" } }, allowPositionals: true });
const scenario = process.env.MCP_CONFORMANCE_SCENARIO;
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}");
const modern = (values.mode ?? (process.env.MCP_CONFORMANCE_PROTOCOL_VERSION >= "2026" ? "modern" : "legacy")) === "modern";

const scenarios = {
    async initialize(client) {
        await client.listTools();
    },

    async tools_call(client) {
        await client.listTools();
        await client.callTool({ name: "add_numbers", arguments: { a: 5, b: 3 } });
    },

    async "elicitation-sep1034-client-defaults"(client) {
        await callAll(client);
    },

    async "sse-retry"(client) {
        await callAll(client);
    },

    async "request-metadata"(client) {
        // Not `listTools`, which asks nobody when the server offers no tools, as this one.
        await client.request({ method: "tools/list", params: {} });
    },

    async "sep-2322-client-request-state"(client) {
        await client.listTools();
        // The unrelated call overlaps with the rounds of the others. Each is played to its end, whatever becomes of the rest.
        const together = ["test_mrtr_echo_state", "test_mrtr_unrelated", "test_mrtr_no_state"];
        await Promise.all(together.map((name) => client.callTool({ name }).catch(report)));
        // Whether a result without `resultType` is taken is the client's business; it must not ask again.
        await client.callTool({ name: "test_mrtr_no_result_type" }).catch(report);
    },

    async "http-standard-headers"(client) {
        await callAll(client);
        for (const { uri } of (await client.listResources()).resources) await client.readResource({ uri });
        for (const { name } of (await client.listPrompts()).prompts) await client.getPrompt({ name });
    },

    async "http-custom-headers"(client) {
        await client.listTools();
        for (const call of context.toolCalls) await client.callTool(call);
    },

    async "http-invalid-tool-headers"(client) {
        await callAll(client);
    },

    async "json-schema-ref-no-deref"(client) {
        await client.listTools();
    },

    async "json-schema-2020-12-preservation"(client) {
        const { tools } = await client.listTools();
        const schema = tools.find((tool) => tool.name === "json_schema_2020_12_tool").inputSchema;
        await client.callTool({ name: "json_schema_echo", arguments: { schema } });
    },
};

/** Calls every tool that is listed, without arguments. */
async function callAll(client) {
    for (const { name } of (await client.listTools()).tools) await client.callTool({ name, arguments: {} });
}

function report(error) {
    console.error(`${scenario}: ${error.code ?? ""} ${error.message}`);
}

const client = new Client(
    { name: "conformance-peer", version: "1.0.0" },
    {
        capabilities: { elicitation: { form: { applyDefaults: true } }, sampling: {}, roots: {} },
        versionNegotiation: { mode: modern ? { pin: "2026-07-28" } : "legacy" },
    },
);
client.setRequestHandler("elicitation/create", async ({ params }) => {
    const confirmed = params.requestedSchema?.properties?.confirmed;
    return { action: "accept", content: confirmed ? { confirmed: true } : {} };
});
client.setRequestHandler("roots/list", async () => ({ roots: [] }));
client.setRequestHandler("sampling/createMessage", async () => ({
    model: "none",
    role: "assistant",
    content: { type: "text", text: "nothing" },
}));

await client.connect(new StreamableHTTPClientTransport(new URL(positionals[0])));
await scenarios[scenario](client);
await client.close();
