// Runs a plan with the command line of the MCP Inspector, which is one process for each request.
import { execFile } from "node:child_process";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { modules, plan } from "./plan.mjs";

const run = promisify(execFile);
const program = join(dirname(modules.resolve("@modelcontextprotocol/inspector/package.json")), "clients/launcher/build/index.js");
const { mode, target, steps } = plan();

/** One request: its result, or what went wrong with it. */
async function ask(method, ...words) {
    const common = ["--cli", ...target, "--protocol-era", mode, "--format", "json", "--quiet", "--method", method, ...words];
    // A result with `isError` has an exit code of its own, so the output is looked at first.
    const { stdout, stderr } = await run(process.execPath, [program, ...common], { maxBuffer: 1 << 26 }).catch((error) => error);
    if (stdout) return JSON.parse(stdout).result;
    console.error(`${method}: ${stderr}`);
    return { failed: { message: stderr } };
}

/** At most four processes at a time; the results are in the order of the work. */
async function all(work) {
    const results = new Array(work.length);
    let next = 0;
    const worker = async () => {
        while (next < work.length) {
            const mine = next++;
            results[mine] = await work[mine]();
        }
    };
    await Promise.all(Array.from({ length: 4 }, worker));
    return results;
}

const texts = (blocks) => blocks.filter(({ type }) => type === "text").map(({ text }) => text).join("\n");
const either = (good) => (answer) => (answer.failed ? answer : good(answer));
const calls = steps.calls ?? [];
const resources = steps.resources ?? [];
const prompts = steps.prompts ?? [];

const work = [
    () => ask("tools/list"),
    () => (resources.length ? ask("resources/list") : {}),
    () => (prompts.length ? ask("prompts/list") : {}),
    ...calls.map(({ name, arguments: given }) => () => ask("tools/call", "--tool-name", name, "--tool-args-json", JSON.stringify(given ?? {}))),
    ...resources.map((uri) => () => ask("resources/read", "--uri", uri)),
    ...prompts.map(({ name, arguments: given }) => () => {
        const pairs = Object.entries(given ?? {}).map(([key, value]) => `${key}=${value}`);
        return ask("prompts/get", "--prompt-name", name, ...(pairs.length ? ["--prompt-args", ...pairs] : []));
    }),
];
const [tools, listed, offered, ...answers] = await all(work);
console.log(
    JSON.stringify({
        protocol: null,
        // A list that is not offered is an error here.
        tools: (tools.tools ?? []).map(({ name }) => name),
        resources: (listed.resources ?? []).map(({ uri }) => uri),
        prompts: (offered.prompts ?? []).map(({ name }) => name),
        calls: answers.splice(0, calls.length).map(
            either((result) => ({ text: texts(result.content), error: result.isError ?? false, structured: result.structuredContent ?? null })),
        ),
        reads: answers.splice(0, resources.length).map(either((result) => result.contents)),
        gets: answers.map(either((result) => ({ text: texts(result.messages.map(({ content }) => content)) }))),
    }),
);
