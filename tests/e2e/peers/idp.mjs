// An identity provider (npm `oidc-provider`) over HTTPS: `idp.mjs PORT CERTIFICATE KEY RESOURCE`. Whoever comes is logged in as
// `ada` and consents, so that a client's whole flow runs without a person.
import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { modules } from "./plan.mjs";

const { Provider } = await import(modules.resolve("oidc-provider"));
const [port, certificate, key, resource] = process.argv.slice(2);
const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const SCOPE = "mcp:call";

const provider = new Provider(`https://localhost:${port}`, {
    jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), alg: "ES256", use: "sig", kid: "peer" }] },
    clientDefaults: { id_token_signed_response_alg: "ES256" },
    cookies: { keys: ["peer"] },
    scopes: ["openid", "offline_access", SCOPE],
    pkce: { required: () => true },
    findAccount: async (_context, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
    interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
    features: {
        devInteractions: { enabled: false },
        registration: { enabled: true },
        resourceIndicators: {
            enabled: true,
            defaultResource: async () => resource,
            useGrantedResource: async () => true,
            getResourceServerInfo: async (_context, asked) => ({
                scope: SCOPE,
                audience: asked,
                accessTokenFormat: "jwt",
                accessTokenTTL: 600,
                jwt: { sign: { alg: "ES256" } },
            }),
        },
    },
    loadExistingGrant: async ({ oidc }) => {
        const grant = new oidc.provider.Grant({ accountId: oidc.session.accountId, clientId: oidc.client.clientId });
        grant.addOIDCScope(`openid offline_access ${SCOPE}`);
        grant.addResourceScope(resource, SCOPE);
        await grant.save();
        return grant;
    },
});
provider.use(async (context, next) => {
    if (!context.path.startsWith("/interaction/")) {
        return next();
    }
    await provider.interactionFinished(context.req, context.res, { login: { accountId: "ada" }, consent: {} });
    context.respond = false;
});
provider.on("server_error", (_context, error) => console.error(error));
const options = { cert: readFileSync(certificate), key: readFileSync(key) };
createServer(options, provider.callback()).listen(Number(port), "127.0.0.1", () => console.log("ready"));
