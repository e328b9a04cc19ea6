-- Organisations, who belongs to them with which role, and who was asked to.

CREATE TABLE organizations (
    id              uuid PRIMARY KEY,
    name            text NOT NULL,
    slug            text NOT NULL UNIQUE,
    created_by      uuid NOT NULL REFERENCES users (id),
    created_at      timestamptz NOT NULL,
    version         bigint NOT NULL DEFAULT 1
);

CREATE TABLE organization_members (
    organization_id uuid NOT NULL REFERENCES organizations (id),
    user_id         uuid NOT NULL REFERENCES users (id),
    role            text NOT NULL CHECK (role IN ('owner', 'organizer', 'member')),
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX organization_members_user ON organization_members (user_id, organization_id);

CREATE TABLE invitations (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations (id),
    email           text NOT NULL,              -- lower case; may belong to nobody yet
    role            text NOT NULL CHECK (role IN ('owner', 'organizer', 'member')),
    -- 'expired' is never stored: it is 'pending' past expires_at.
    status          text NOT NULL CHECK (status IN ('pending', 'accepted', 'declined')),
    invited_by      uuid NOT NULL REFERENCES users (id),
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    answered_at     timestamptz
);
CREATE INDEX invitations_email ON invitations (email, id);
CREATE UNIQUE INDEX invitations_open ON invitations (organization_id, email)
    WHERE status = 'pending';
