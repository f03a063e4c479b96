FROM python:3.11-slim

RUN useradd --create-home --uid 1000 site && mkdir /data && chown site /data
WORKDIR /site
# With OpenAI's client: --build-arg REQUIREMENTS=requirements-openai.txt
ARG REQUIREMENTS=requirements-production.txt
COPY requirements-production.txt requirements-openai.txt ./
RUN pip install --no-cache-dir --require-hashes -r $REQUIREMENTS
COPY manage.py .
COPY CeleryProgressbar CeleryProgressbar
COPY livejobs livejobs
COPY HomeApp HomeApp

ENV DATA_DIR=/data PYTHONUNBUFFERED=1
USER site
VOLUME /data
EXPOSE 8000
CMD ["uvicorn", "--host", "0.0.0.0", "--ws", "websockets-sansio", "--ws-max-size", "65536", "--ws-per-message-deflate", "false", "CeleryProgressbar.asgi:application"]
