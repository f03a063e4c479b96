"""The site: pages that start jobs, the tasks that they run, sign-up. The engine is livejobs.

forms.py, tasks.py    the kinds of job: what may be asked, and the work
primes.py, search/, exports.py, workbook.py    the work itself
views.py, urls.py, templates, static/HomeApp/    the pages
tokens.py      the addresses of tokens below /api/
users.py, signup.py, welcome_email.py    the user, POST /api/users/, and what its job sends
models/, admin.py    the rows, and how the admin shows them
"""
