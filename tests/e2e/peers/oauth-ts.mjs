// The OAuth flow of a TypeScript client: `oauth-ts.mjs new|old URL TOOL`. Prints the status of the challenge's flow and the answer.
import { modules } from "./plan.mjs";

const [which, url, tool] = process.argv.slice(2);
const sdk =
    which === "new"
        ? modules("@modelcontextprotocol/client")
        : {
              ...modules("@modelcontextprotocol/sdk/client/index.js"),
              ...modules("@modelcontextprotocol/sdk/client/streamableHttp.js"),
              ...modules("@modelcontextprotocol/sdk/client/auth.js"),
          };
const { Client, StreamableHTTPClientTransport, UnauthorizedError } = sdk;

/** Everything that the client keeps, and the page that it sends its user to. */
const kept = {};
const provider = {
    redirectUrl: "http://127.0.0.1:1/callback",
    clientMetadata: {
        client_name: "ts-peer",
        redirect_uris: ["http://127.0.0.1:1/callback"],
        grant_types: ["authorization_code", "refresh_token"],
        response_types: ["code"],
        token_endpoint_auth_method: "none",
    },
    clientInformation: () => kept.client,
    saveClientInformation: (client) => void (kept.client = client),
    tokens: () => kept.tokens,
    saveTokens: (tokens) => void (kept.tokens = tokens),
    redirectToAuthorization: (page) => void (kept.page = page),
    saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
    codeVerifier: () => kept.verifier,
    saveDiscoveryState: (state) => void (kept.discovery = state),
    discoveryState: () => kept.discovery,
};

/** A browser: follows redirects with their cookies, until they lead to the client. */
async function browse(page) {
    const cookies = new Map();
    for (let step = 0; step < 10; step++) {
        const sent = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
        const reply = await fetch(page, { redirect: "manual", headers: { cookie: sent } });
        for (const cookie of reply.headers.getSetCookie()) {
            const [name, value] = cookie.split(";")[0].split(/=(.*)/);
            cookies.set(name, value);
        }
        const next = reply.headers.get("location");
        if (!next) throw new Error(`${reply.status} at ${page}: ${(await reply.text()).slice(0, 2000)}`);
        page = new URL(next, page);
        if (page.href.startsWith(provider.redirectUrl)) return page.searchParams;
    }
    throw new Error("too many redirects");
}

async function connected() {
    const options = which === "new" ? { versionNegotiation: { mode: "auto" } } : {};
    const client = new Client({ name: "ts-peer", version: "1.0.0" }, options);
    const transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: provider });
    try {
        await client.connect(transport);
        return client;
    } catch (error) {
        if (!(error instanceof UnauthorizedError) || !kept.page) throw error;
        const answer = await browse(kept.page);
        await (which === "new" ? transport.finishAuth(answer) : transport.finishAuth(answer.get("code")));
        return null;
    }
}

const client = (await connected()) ?? (await connected());
const result = await client.callTool({ name: tool, arguments: { text: "hello" } });
await client.close();
console.log(JSON.stringify({ redirected: Boolean(kept.page), scope: kept.tokens.scope, result }));
