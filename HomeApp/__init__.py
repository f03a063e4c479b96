"""Press START, and watch the truth about your background job, live.

A report's way, file by file:

    progress.py    a worker runs a task; `track` or `update_state` reports, numbered
    reply_queue.py the queue the report goes to, through Celery's rpc result backend
    drain.py       takes what the broker has
    relay.py       a thread in each web process: replies -> rows -> hub
    reply.py       what a reply says
    models/job.py  the row, and the only ways in which it may move
    snapshot.py    a job as it is told
    hub.py         snapshots -> the sockets of each web process
    watcher.py     one open socket: who it is, and what it is shown
    connection.py  what is under it: takes ready frames; a slow reader is waited for, and cut
    consumers.py   the sockets: who may watch what
    static/HomeApp/socket.js, bar.js    the browser: a snapshot becomes a bar

And the way to it:

    home.html, home.js -> consumers.py -> jobs.py (check, row, task) -> broker -> tasks.py
        -> primes.py, search/ (the work)

Beside the path: sweep.py (jobs of which no reply will tell), lifespan.py (starts hub and relay),
worker_request.py (how a worker ends a cancelled job), signals.py (what other apps may hear), owner.py (who asks),
origin.py (which pages may ask), forms.py (what may be asked), threads.py (calls that wait, off the event loop),
files.py (what jobs make), exports.py and workbook.py (the Excel export), routing.py, urls.py, views.py, admin.py.

For programs: api.py (the JSON API), request.py (how it is read), problem.py (its errors).
Signing up: users.py (the user), signup.py (POST /api/users/), welcome_email.py (what its job sends).
"""
