# CPU: docker build -t trencadis .
# CUDA: docker build --build-arg TORCH_INDEX=URL, where URL is PyTorch's index of wheels for your CUDA version.
FROM python:3.13-slim
ARG TORCH_INDEX
WORKDIR /opt/trencadis
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY src ./src
RUN pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch \
    && pip install --no-cache-dir -c constraints.txt ".[serve]" \
    && useradd --create-home trencadis
USER trencadis
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
ENTRYPOINT ["trencadis", "serve", "--host", "0.0.0.0"]
