// What the TypeScript clients share. The contract is that of `fixture client`: a plan in, one JSON object out.
import { createRequire } from "node:module";
import { parseArgs } from "node:util";

/** Loads a package of the folder in PEER_MODULES. */
export const modules = createRequire(`${process.env.PEER_MODULES}/`);

export function plan() {
    const { values, positionals } = parseArgs({
        options: { mode: { type: "string", default: "legacy" }, plan: { type: "string", default: "{}" } },
        allowPositionals: true,
    });
    return { mode: values.mode, target: positionals, steps: JSON.parse(values.plan) };
}

export async function perform(client, steps, protocol) {
    const capabilities = client.getServerCapabilities() ?? {};
    const outcome = {
        protocol,
        tools: await every((page) => client.listTools(page), "tools", "name"),
        resources: capabilities.resources ? await every((page) => client.listResources(page), "resources", "uri") : [],
        prompts: capabilities.prompts ? await every((page) => client.listPrompts(page), "prompts", "name") : [],
        calls: [],
        reads: [],
        gets: [],
    };
    for (const step of steps.calls ?? []) {
        outcome.calls.push(
            await attempt(async () => {
                const result = await client.callTool({ name: step.name, arguments: step.arguments ?? {} });
                const structured = result.structuredContent ?? null;
                return { text: texts(result.content), error: result.isError ?? false, structured };
            }),
        );
    }
    for (const uri of steps.resources ?? []) {
        outcome.reads.push(await attempt(async () => (await client.readResource({ uri })).contents));
    }
    for (const step of steps.prompts ?? []) {
        outcome.gets.push(
            await attempt(async () => {
                const result = await client.getPrompt({ name: step.name, arguments: step.arguments ?? {} });
                return { text: texts(result.messages.map((message) => message.content)) };
            }),
        );
    }
    await client.close();
    console.log(JSON.stringify(outcome));
}

/** A form as a person fills it in who takes everything literally. */
export function filled(schema) {
    const kinds = { boolean: true, string: "peer", integer: 1, number: 1.5 };
    return Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, field]) => [name, kinds[field.type]]));
}

/** All pages of a list. */
async function every(list, kind, field) {
    const found = [];
    let cursor;
    do {
        const page = await list(cursor === undefined ? {} : { cursor });
        found.push(...page[kind].map((item) => item[field]));
        cursor = page.nextCursor;
    } while (cursor !== undefined);
    return found;
}

async function attempt(work) {
    try {
        return await work();
    } catch (error) {
        return { failed: { code: error.code ?? null, message: error.message, data: error.data ?? null } };
    }
}

const texts = (blocks) =>
    blocks
        .filter((block) => block.type === "text")
        .map((block) => block.text)
        .join("\n");
