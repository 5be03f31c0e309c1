// An OpenID provider with two realms for the tests. Each line of standard input is a command, each line of standard output the
// answer to one. It ends with its standard input.
import { createServer as plainServer } from 'node:http';
import { createServer as tlsServer } from 'node:https';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const route = '/protocol/openid-connect';
const people = new Map(); // issuer + sub -> what the realm knows about a person
const realms = new Map(); // path -> request handler

function claimsOf(issuer, ctx, token) {
  if (token.kind === 'ClientCredentials') {
    return {
      preferred_username: `service-account-${token.clientId}`, clientHost: '127.0.0.1', clientAddress: '127.0.0.1', acr: '1',
      realm_access: { roles: token.clientId === 'aes-signer-sa' ? ['clinician'] : [] },
    };
  }
  const person = people.get(issuer + ' ' + token.accountId);
  const code = ctx.oidc.entities.AuthorizationCode ?? ctx.oidc.entities.RefreshToken;
  const claims = { preferred_username: person.username, name: person.name, sid: token.sessionUid };
  if (person.roles) claims.realm_access = { roles: person.roles };
  if (person.client_roles) claims.resource_access = Object.fromEntries(Object.entries(person.client_roles).map(([k, v]) => [k, { roles: v }]));
  if (code?.acr) claims.acr = code.acr;
  if (code?.authTime && !person.no_auth_time) claims.auth_time = code.authTime;
  return claims;
}

function build({ issuer, jwks, style, clients }) {
  const provider = new Provider(issuer, {
    jwks, clients,
    acrValues: ['0', '1', '2', 'gold'],
    cookies: { keys: ['a key for tests'] },
    claims: { openid: ['sub', 'acr', 'auth_time'], profile: ['name', 'preferred_username'] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:test:api',
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource, client) => ({
          scope: 'sign', audience: client.clientId === 'stranger' ? 'somewhere-else' : 'aes-portal', accessTokenTTL: 300, accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    findAccount: (ctx, sub) => {
      const person = people.get(issuer + ' ' + sub);
      return person && { accountId: sub, claims: () => ({ sub, name: person.name, preferred_username: person.username }) };
    },
    loadExistingGrant: async (ctx) => {
      const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
      grant.addOIDCScope('openid profile');
      grant.addResourceScope('urn:test:api', 'sign');
      await grant.save();
      return grant;
    },
    issueRefreshToken: async () => true,
    extraTokenClaims: (ctx, token) => claimsOf(issuer, ctx, token),
    // One realm writes tokens as a Keycloak does, the other as RFC 9068 says.
    formats: {
      customizers: {
        jwt: (ctx, token, jwt) => {
          if (style !== 'keycloak') return;
          jwt.header = { typ: 'JWT' };
          jwt.payload.typ = 'Bearer';
          jwt.payload.azp = jwt.payload.client_id;
          if (token.kind !== 'ClientCredentials') delete jwt.payload.client_id;
        },
      },
    },
    interactions: { url: (ctx, interaction) => `${new URL(issuer).pathname}/interaction/${interaction.uid}` },
    pkce: { required: () => true },
    rotateRefreshToken: false,
    routes: { jwks: `${route}/certs`, authorization: `${route}/auth`, token: `${route}/token` },
    ttl: { AccessToken: 300, IdToken: 300, Interaction: 600, Session: 600, Grant: 600, RefreshToken: 1800, ClientCredentials: 300 },
  });
  provider.on('server_error', (ctx, err) => console.error(err));
  const prefix = new URL(issuer).pathname;
  const callback = provider.callback();
  realms.set(prefix, async (req, res) => {
    if (req.url.startsWith(`${prefix}/interaction/`)) {
      // Who logs in, and how, is told by login_hint: the person is believed without a password.
      const details = await provider.interactionDetails(req, res);
      const person = JSON.parse(Buffer.from(details.params.login_hint, 'base64url').toString());
      people.set(issuer + ' ' + person.sub, person);
      const ts = Math.floor(Date.now() / 1000) - (person.auth_age ?? 0);
      await provider.interactionFinished(req, res, { login: { accountId: person.sub, acr: person.acr, ts, remember: false } });
      return;
    }
    req.originalUrl = req.url;
    req.url = req.url.slice(prefix.length);
    callback(req, res);
  });
}

function handle(req, res) {
  const realm = [...realms.keys()].find((prefix) => req.url.startsWith(prefix + '/'));
  if (!realm) {
    res.writeHead(404).end();
    return;
  }
  realms.get(realm)(req, res).catch((err) => {
    console.error(err);
    res.writeHead(500).end();
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  switch (command.do) {
    case 'listen': {
      const server = command.key ? tlsServer({ key: command.key, cert: command.cert }, handle) : plainServer(handle);
      await new Promise((done, failed) => server.once('error', failed).listen(0, '127.0.0.1', done));
      console.log(JSON.stringify({ port: server.address().port }));
      break;
    }
    case 'realm': // takes the place of one of the same issuer
      build(command);
      console.log('{}');
      break;
    default:
      throw new Error(`no command ${command.do}`);
  }
}
process.exit(0);
