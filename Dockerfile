# brewd in a container: an ordinary user, the data in one volume, the embedded servers ready for when no URL is given.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY scripts/constraints.txt scripts/
COPY migrations migrations
COPY brewd brewd
RUN python -m venv /opt/brewd \
    && /opt/brewd/bin/pip install --no-cache-dir --constraint scripts/constraints.txt '.[dev]'

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/brewd brewd
COPY --from=build /opt/brewd /opt/brewd
ENV PATH=/opt/brewd/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    BREWD__DATA__DIR=/var/lib/brewd \
    BREWD__SERVER__LISTEN='["0.0.0.0:8080"]'
USER brewd
VOLUME /var/lib/brewd
EXPOSE 8080
# SIGTERM drains: members are told to come back, the journal is settled, the servers end in order.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/api/health/live', timeout=2)"]
ENTRYPOINT ["brewd"]
CMD ["serve"]
