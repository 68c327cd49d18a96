"""Why a session ended, and the shares of a bank line that pays several payments.

Revision: 0003, after 0002
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

import storage.database

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column(
        "signin", sa.Column("ended", sqlmodel.sql.sqltypes.AutoString(), nullable=False, server_default=sa.text("''"))
    )
    op.create_table(
        "lineshare",
        sa.Column("id", BIG, nullable=False),
        sa.Column("line_id", BIG, nullable=False),
        sa.Column("payment_due_id", BIG, nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("over_minor", sa.BigInteger(), nullable=False),
        sa.Column("ledger_key", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("decided_by", BIG, nullable=True),
        sa.Column("created_at", storage.database.Instant(timezone=True), nullable=False),
        sa.Column("undone_at", storage.database.Instant(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["line_id"], ["statementline.id"], name=op.f("fk_lineshare_line_id")),
        sa.ForeignKeyConstraint(["payment_due_id"], ["paymentdue.id"], name=op.f("fk_lineshare_payment_due_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lineshare")),
    )
    with op.batch_alter_table("lineshare", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_lineshare_line_id"), ["line_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_lineshare_payment_due_id"), ["payment_due_id"], unique=False)
    # Lines that were matched before: all of the line went to one payment, what was over back to the payer.
    op.execute(
        "insert into lineshare (line_id, payment_due_id, amount_minor, over_minor, ledger_key, decided_by, created_at) "
        "select one.id, one.payment_due_id, one.taken, one.amount_minor - one.taken, one.key, one.decided_by, one.at "
        "from (select l.id, l.payment_due_id, l.amount_minor, l.decided_by, e.key, e.at, coalesce((select "
        "-sum(p.amount_minor) from posting p join ledgeraccount a on a.id = p.ledger_account_id "
        "where p.ledger_entry_id = e.id and (a.code like 'deposit:%' or a.code like 'buyer:%')), 0) as taken "
        "from statementline l join ledgerentry e on e.key = 'match:' || l.id where l.payment_due_id is not null) one"
    )


def downgrade() -> None:
    with op.batch_alter_table("lineshare", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_lineshare_payment_due_id"))
        batch_op.drop_index(batch_op.f("ix_lineshare_line_id"))
    op.drop_table("lineshare")
    with op.batch_alter_table("signin", schema=None) as batch_op:
        batch_op.drop_column("ended")
