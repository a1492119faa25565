-- Users, their sessions, rooms and who is in them. Written by gateways.
-- Times are milliseconds since 1970 UTC. Constraint and index names are matched by code and by the Postgres twin.

CREATE TABLE installation (
    id         INTEGER NOT NULL,
    epoch      INTEGER NOT NULL,
    partitions INTEGER NOT NULL,
    CONSTRAINT installation_pk PRIMARY KEY (id),
    CONSTRAINT installation_single CHECK (id = 1),
    CONSTRAINT installation_partitions CHECK (partitions BETWEEN 1 AND 1024)
);

CREATE TABLE users (
    id            INTEGER PRIMARY KEY,
    public_id     TEXT    NOT NULL,
    email         TEXT    NOT NULL,
    username      TEXT    NOT NULL,
    password_hash TEXT    NOT NULL,
    is_admin      BOOLEAN NOT NULL DEFAULT FALSE,
    created_on    INTEGER NOT NULL
);
CREATE UNIQUE INDEX users_public_id ON users (public_id);
CREATE UNIQUE INDEX users_email     ON users (email);
CREATE UNIQUE INDEX users_username  ON users (username);

CREATE TABLE sessions (
    id         BLOB    NOT NULL,
    user_id    INTEGER NOT NULL,
    expires_on INTEGER NOT NULL,
    revoked_on INTEGER,
    CONSTRAINT sessions_pk PRIMARY KEY (id),
    CONSTRAINT sessions_user FOREIGN KEY (user_id) REFERENCES users (id)
) WITHOUT ROWID;
CREATE INDEX sessions_expiry ON sessions (expires_on);

-- A deleted room keeps its row and its messages: an accepted message is never lost, and ids are never used again.
-- incarnation counts the deleted rooms of the same name; it makes cursors of an earlier one foreign.
CREATE TABLE rooms (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL,
    owner_id    INTEGER NOT NULL,
    is_private  BOOLEAN NOT NULL DEFAULT FALSE,
    incarnation INTEGER NOT NULL DEFAULT 0,
    created_on  INTEGER NOT NULL,
    deleted_on  INTEGER,
    CONSTRAINT rooms_owner FOREIGN KEY (owner_id) REFERENCES users (id)
);
CREATE UNIQUE INDEX rooms_live_name ON rooms (name) WHERE deleted_on IS NULL;

CREATE TABLE members (
    room_id   INTEGER NOT NULL,
    user_id   INTEGER NOT NULL,
    joined_on INTEGER NOT NULL,
    CONSTRAINT members_pk PRIMARY KEY (room_id, user_id),
    CONSTRAINT members_room FOREIGN KEY (room_id) REFERENCES rooms (id),
    CONSTRAINT members_user FOREIGN KEY (user_id) REFERENCES users (id)
) WITHOUT ROWID;
CREATE INDEX members_of_user ON members (user_id);
