"""The log of checkpoints with its tree heads, append-only, and the public keys that sign.

Revision: 0005, after 0004
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

import storage.database

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
APPEND_ONLY = ("logleaf", "lognode", "treehead")


def upgrade() -> None:
    op.create_table(
        "logleaf",
        sa.Column("number", BIG, nullable=False, autoincrement=False),
        sa.Column("auction_id", BIG, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_logleaf")),
        sa.UniqueConstraint("auction_id", "sequence", name=op.f("uq_logleaf_auction_id_sequence")),
    )
    op.create_table(
        "lognode",
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("number", BIG, nullable=False, autoincrement=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "number", name=op.f("pk_lognode")),
    )
    op.create_table(
        "treehead",
        sa.Column("id", BIG, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("signed_at", storage.database.Instant(timezone=True), nullable=False),
        sa.Column("text", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("key_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_treehead")),
    )
    with op.batch_alter_table("treehead", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_treehead_size"), ["size"], unique=False)
    op.create_table(
        "signingkey",
        sa.Column("key_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("valid_from", storage.database.Instant(timezone=True), nullable=False),
        sa.Column("valid_until", storage.database.Instant(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_signingkey")),
    )
    for table in APPEND_ONLY:
        if op.get_bind().dialect.name == "sqlite":
            for verb in ("update", "delete"):
                op.execute(
                    f"create trigger {table}_no_{verb} before {verb} on {table} "
                    f"begin select raise(abort, '{table} is append-only'); end"
                )
        else:
            op.execute(
                f"create trigger {table}_append_only before update or delete or truncate on {table} "
                "for each statement execute function clearlot_append_only()"
            )


def downgrade() -> None:
    for table in ("logleaf", "lognode", "treehead", "signingkey"):
        op.drop_table(table)
