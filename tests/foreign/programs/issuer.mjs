// An identity provider of other people (oidc-provider) for programs: `node issuer.mjs PORT`. Its access tokens are JWT by
// RFC 9068, signed as the resource asks (`?alg=`). Keys are made at the start.
import http from "node:http";
import { generateKeyPairSync } from "node:crypto";
import { Provider } from "oidc-provider";

const port = Number(process.argv[2]);
const made = (kid, alg, kind, options) => ({
  kid, alg, use: "sig",
  ...generateKeyPairSync(kind, options).privateKey.export({ format: "jwk" }),
});
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: "agent", client_secret: "agent-secret", grant_types: ["client_credentials"],
    redirect_uris: [], response_types: [],
  }],
  jwks: {
    keys: [
      made("r1", "RS256", "rsa", { modulusLength: 2048 }),
      made("p1", "PS256", "rsa", { modulusLength: 2048 }),
      made("e1", "ES256", "ec", { namedCurve: "P-256" }),
      made("d1", "EdDSA", "ed25519"),
    ],
  },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => "https://gateway.example.com/",
      getResourceServerInfo: (_, resource) => ({
        scope: "inference", audience: "tallygate", accessTokenFormat: "jwt", accessTokenTTL: 300,
        jwt: { sign: { alg: new URL(resource).searchParams.get("alg") ?? "RS256" } },
      }),
    },
  },
  extraTokenClaims: () => ({ org: "acme" }),
});
http.createServer(provider.callback()).listen(port, "127.0.0.1", () => console.log("ready"));
