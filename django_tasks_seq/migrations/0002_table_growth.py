"""Tables that jobs come to and are pruned from again: an index to find old jobs, and when to vacuum.

Measured on PostgreSQL 18 with 200,000 finished jobs of 5 tasks, while 12 times 10,000 jobs were run
and the 10,000 oldest pruned. A site's own values may be set afterwards with ALTER TABLE: no later
migration sets these again.
"""

from django.db import migrations, models

from django_tasks_seq.cache.model.storage import AddIndexInUse, SetStorage


class Migration(migrations.Migration):

    # The index is built while jobs are running.
    atomic = False

    dependencies = [
        ('django_tasks_seq', '0001_initial'),
    ]

    operations = [
        SetStorage(
            'job',
            {
                # A job leaves two dead rows (its claim, its end), and an entry in the claim's index
                # that the next claims read over. The default, 20 % of a table that keeps a month of
                # jobs, comes after days of work; 2 % kept the table 11 % smaller and a claim at 30
                # instead of 75 pages read, for 1 % more WAL.
                'autovacuum_vacuum_scale_factor': 0.02,
                # The default, 50, would vacuum a small site's table every minute.
                'autovacuum_vacuum_threshold': 1000,
                # No update of a job is HOT, whatever the fill factor: claim, renewal and end change
                # columns of the partial indexes. But a new version on the page of the old one is
                # logged once: half as many go elsewhere (109,000 instead of 211,000 of 240,000),
                # 4 % less WAL, for 125 bytes a job. 50 gains 1 % more and doubles the table.
                'fillfactor': 70,
            },
        ),
        SetStorage(
            'taskstatus',
            {
                # The largest table: rows are inserted once and deleted once. With 30 days kept, the
                # default lets six days of deleted rows stand before their place is used again.
                'autovacuum_vacuum_scale_factor': 0.05,
                # A table that only grows is frozen in pieces, not a fifth of it at a time.
                'autovacuum_vacuum_insert_scale_factor': 0.05,
                # The cost limit is the server's: vacuuming kept up at 15,000 tasks/s with it.
            },
        ),
        AddIndexInUse(
            model_name='job',
            index=models.Index(
                condition=models.Q(('finished_at__isnull', False)),
                fields=['finished_at'],
                name='tseq_job_finished',
            ),
        ),
    ]
