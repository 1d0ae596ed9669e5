CREATE TABLE entries (
	n             INTEGER PRIMARY KEY,
	id            TEXT NOT NULL UNIQUE,
	message       TEXT NOT NULL,
	time          INTEGER NOT NULL, -- milliseconds since 1970
	sender        TEXT NOT NULL,    -- in lower case, as is its domain
	sender_domain TEXT NOT NULL,
	class         TEXT NOT NULL,
	reason        TEXT NOT NULL,    -- in lower case
	size          INTEGER NOT NULL, -- octets of the original
	data          TEXT NOT NULL     -- the whole entry, JSON
);
CREATE INDEX entries_time    ON entries(time);
CREATE INDEX entries_class   ON entries(class, time, size);
CREATE INDEX entries_message ON entries(message);
CREATE INDEX entries_sender  ON entries(sender);
CREATE INDEX entries_domain  ON entries(sender_domain);

CREATE TABLE recipients (
	entry   INTEGER NOT NULL REFERENCES entries(n) ON DELETE CASCADE,
	address TEXT NOT NULL, -- in lower case, as is its domain
	domain  TEXT NOT NULL
);
CREATE INDEX recipients_entry   ON recipients(entry);
CREATE INDEX recipients_address ON recipients(address, entry);
CREATE INDEX recipients_domain  ON recipients(domain, entry);

-- Has a row once the index holds everything that the files say: without it the
-- index is new, or a rebuild was cut off.
CREATE TABLE complete (
	time INTEGER NOT NULL
);
