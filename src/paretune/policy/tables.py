"""The registry's tables, as the newest migration leaves them. An edge: SQLAlchemy.

The rule: bundles, evidence, plans, activations, outcomes and the audit trail are only ever added to, and the database itself refuses to
change them; what changes is one row of `in_force`, the state of a policy, the rules, and who has access. Times are microseconds since
1970, UTC.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Integer, LargeBinary, MetaData, String, Table, Text, UniqueConstraint

HEAD = "0003"  # newest migration

metadata = MetaData()

bundles = Table(
    "bundles",
    metadata,
    Column("fingerprint", String(64), primary_key=True),  # SHA-256 of the bundle's SHA256SUMS
    Column("at_us", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
)
bundle_files = Table(
    "bundle_files",
    metadata,
    Column("fingerprint", String(64), ForeignKey("bundles.fingerprint"), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("content", LargeBinary, nullable=False),
)
fronts = Table(
    "fronts",
    metadata,
    Column("fingerprint", String(64), primary_key=True),  # SHA-256 of front.json
    Column("document", LargeBinary, nullable=False),  # front.json
    Column("report", LargeBinary),  # report.html
    Column("at_us", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
)
policies = Table(
    "policies",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("approved", String(64), nullable=False),  # the fingerprint that was approved; empty = none
    Column("approved_by", Text, nullable=False),
    Column("approved_us", BigInteger, nullable=False),
)
evidence = Table(
    "evidence",
    metadata,
    Column("number", Integer, ForeignKey("policies.number"), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),  # the latest is what the policy is
    Column("fingerprint", String(64), nullable=False),  # of the document
    Column("document", LargeBinary, nullable=False),  # operating.json
    Column("bundle", String(64), ForeignKey("bundles.fingerprint")),  # none of fixed weights
    Column("front", String(64), ForeignKey("fronts.fingerprint")),
    Column("at_us", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
    Column("note", Text, nullable=False),
)
plans = Table(
    "plans",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("fingerprint", String(64), nullable=False),  # of the document
    Column("document", LargeBinary, nullable=False),
)
activations = Table(
    "activations",
    metadata,
    Column("version", Integer, ForeignKey("plans.version"), primary_key=True),
    Column("previous", Integer, nullable=False),  # version that was in force before; 0 = none
    Column("content_of", Integer, nullable=False),  # version whose content this one repeats; its own where it is new
    Column("operation", String(32), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("idempotency_key", String(200)),
    Column("request", String(64), nullable=False),  # hash of what was asked, so that a key is not used twice for two things
    UniqueConstraint("idempotency_key", name="one_activation_per_key"),
)
in_force = Table(
    "in_force",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("version", Integer, nullable=False),  # of the plan; 0 = none yet
)
rules = Table(
    "rules",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("self_approval", Boolean, nullable=False),
    Column("evidence_days", Float, nullable=False),
)
audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", String(32), nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("evidence", String(64), nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)
outcomes = Table(
    "outcomes",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),  # 1, 2, 3, ...
    Column("version", Integer, ForeignKey("plans.version"), nullable=False),  # of the plan that was tested
    Column("number", Integer, ForeignKey("policies.number"), nullable=False),
    Column("revision", Integer, nullable=False),  # of the evidence that promised it
    Column("objective", String(200), nullable=False),
    Column("minimised", Boolean, nullable=False),  # less of it is better
    Column("predicted", Float, nullable=False),  # relative lift, a fraction; as are all below
    Column("predicted_error", Float),  # NULL = unknown
    Column("predicted_low", Float),
    Column("predicted_high", Float),
    Column("seen", Float, nullable=False),
    Column("seen_error", Float),
    Column("seen_low", Float),
    Column("seen_high", Float),
    Column("users", BigInteger, nullable=False),  # of the policy's arm and its control
    Column("days", Integer, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
    Column("readout", String(64), nullable=False),  # fingerprint of the readout that saw it
    UniqueConstraint("number", "objective", "readout", name="one_outcome_per_readout"),
)
accounts = Table(
    "accounts",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password", Text, nullable=False),  # stretched and salted; empty = none, signs in by way of a proxy
    Column("disabled", Boolean, nullable=False),
    Column("made_us", BigInteger, nullable=False),
)
sessions = Table(
    "sessions",
    metadata,
    Column("hash", String(64), primary_key=True),  # SHA-256 of the session id
    Column("account", String(100), ForeignKey("accounts.name"), nullable=False),
    Column("made_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    Column("origin", Text, nullable=False),  # address that it began from
)
tokens = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True),  # to speak of it
    Column("hash", String(64), nullable=False, unique=True),  # SHA-256 of the token
    Column("account", String(100), ForeignKey("accounts.name"), nullable=False),
    Column("name", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("plans_only", Boolean, nullable=False),
    Column("made_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),  # 0 = never
    Column("revoked_us", BigInteger, nullable=False),  # 0 = not revoked
)
