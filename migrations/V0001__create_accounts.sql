-- People, the credentials they hold, and how long each is good for.

CREATE TABLE users (
    id              uuid PRIMARY KEY,
    email           text NOT NULL,              -- lower case; unique among the living
    name            text NOT NULL,
    password_hash   text NOT NULL,              -- argon2id, PHC string; '' once anonymised
    role            text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'admin')),
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    deactivated_at  timestamptz,                -- anonymised or banned: no token is good any more
    version         bigint NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX users_email ON users (email);
CREATE INDEX users_deactivated ON users (deactivated_at) WHERE deactivated_at IS NOT NULL;

-- A family is one sign-in. Each refresh replaces the token; using a replaced one revokes the family.
CREATE TABLE refresh_tokens (
    token_hash      bytea PRIMARY KEY,          -- SHA-256; the token itself is never stored
    family_id       uuid NOT NULL,
    user_id         uuid NOT NULL REFERENCES users (id),
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    used_at         timestamptz,
    revoked_at      timestamptz
);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family_id);
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_expiry ON refresh_tokens (expires_at);

CREATE TABLE api_keys (
    id              uuid PRIMARY KEY,
    user_id         uuid NOT NULL REFERENCES users (id),
    name            text NOT NULL,
    key_hash        bytea NOT NULL UNIQUE,      -- SHA-256
    prefix          text NOT NULL,              -- the first characters, to tell keys apart
    scopes          text[] NOT NULL,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz,
    revoked_at      timestamptz
);
CREATE INDEX api_keys_user ON api_keys (user_id, id);
