# The image of every k2 process of docker-compose.yml: the server, sinks, the schedule, JupyterLab.
FROM python:3.11.14-slim-bookworm AS build
COPY --from=ghcr.io/astral-sh/uv:0.9.5 /uv /bin/uv
WORKDIR /opt/k2
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
COPY pyproject.toml uv.lock README.md CHANGELOG.md LICENSE ./
COPY k2kernel k2kernel
COPY panel_apps panel_apps
COPY notebooks notebooks
RUN uv sync --frozen --no-editable --extra app --extra kafka --extra notebook --extra postgres --extra s3

FROM python:3.11.14-slim-bookworm
RUN useradd --create-home --uid 10001 k2 && install -d -o k2 /lake /notebooks
COPY --from=build /opt/k2/.venv /opt/k2/.venv
COPY --chown=k2 notebooks /notebooks
ENV PATH=/opt/k2/.venv/bin:$PATH K2_HOME=/lake
USER k2
WORKDIR /lake
VOLUME /lake
ENTRYPOINT ["k2"]
CMD ["--help"]
