# One image for web nodes, workers, beat and migrations; compose.yaml says which it is.
FROM python:3.11-slim-bookworm AS build
WORKDIR /app
COPY requirements requirements
COPY tools tools
RUN python tools/bootstrap.py run
COPY package.json package-lock.json .npmrc ./
# Node came along only to fetch the browser's files; without its lock it goes again.
RUN .venv/bin/python tools/assets.py \
    && .venv/bin/uv pip sync --quiet --require-hashes --python .venv/bin/python requirements/run.txt

FROM python:3.11-slim-bookworm
RUN useradd --system --create-home --uid 10001 clearlot
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY --from=build /app/web/static/vendor web/static/vendor
COPY auctions auctions
COPY market market
COPY storage storage
COPY web web
COPY tools/bucket.py tools/bucket.py
ENV PATH=/app/.venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1
USER clearlot
ENTRYPOINT ["python", "-m", "web.cli"]
CMD ["serve"]
