"""What the tables need on MariaDB, which takes indexes without their conditions; nothing elsewhere.

There each index has all jobs, those that have ended as well: a claim would read over the history of its
queue. And text is compared without regard to case and to spaces at its end.
"""

from django.db import migrations

from django_tasks_seq.cache.model.storage import ExactTextOnMariaDB, IndexOnMariaDB


class Migration(migrations.Migration):

    dependencies = [
        ('django_tasks_seq', '0002_table_growth'),
    ]

    operations = [
        ExactTextOnMariaDB(
            'job', ['sequence', 'queue', 'idempotency_key', 'subject_type', 'subject_id']
        ),
        ExactTextOnMariaDB('taskstatus', ['task_id']),
        ExactTextOnMariaDB('taskattempt', ['task_id']),
        ExactTextOnMariaDB('jobevent', ['kind']),
        ExactTextOnMariaDB('worker', ['name']),
        IndexOnMariaDB(
            'job',
            'tseq_job_claim',
            ['queue', 'rank', 'run_after', 'id'],
            first=['status', 'carried'],
        ),
        IndexOnMariaDB('job', 'tseq_job_waiting', ['run_after'], first=['status']),
        IndexOnMariaDB('job', 'tseq_job_handler', ['run_after'], first=['handler_due']),
    ]
