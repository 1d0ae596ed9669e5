-- n is the order of time: milliseconds since 1970, times 2^20, plus a counter.
CREATE TABLE records (
	n    INTEGER PRIMARY KEY,
	data TEXT NOT NULL -- the whole record, JSON
);

-- Where free words are looked for, in lower case. It is read from end to end, so
-- it is a table of its own, a fraction of the records.
CREATE TABLE words (
	n     INTEGER PRIMARY KEY,
	words TEXT NOT NULL
);

-- What a record is found by: an id, a Message-ID, an address, a domain, a client.
-- hash is of the term, since numbers make the index half as large. The day (since
-- 1970, UTC) stands first so that writing touches one small part of the index, and
-- so that a day is forgotten as one range.
CREATE TABLE terms (
	day  INTEGER NOT NULL,
	hash INTEGER NOT NULL,
	n    INTEGER NOT NULL,
	PRIMARY KEY (day, hash, n)
) WITHOUT ROWID;

-- Attempts made after the record was written, or before: by the message's id.
CREATE TABLE deliveries (
	n    INTEGER PRIMARY KEY,
	id   TEXT NOT NULL,
	data TEXT NOT NULL
);
CREATE INDEX deliveries_id ON deliveries(id);
