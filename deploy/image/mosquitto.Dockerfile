# Debian's mosquitto with Keyward inside: what its package needs, and the plugin.
#
# deploy/image/build makes what goes in, and the image, without a daemon. Any other builder takes the same folder:
#
#   deploy/image/build && docker build --file deploy/image/mosquitto.Dockerfile target/image/keyward-mosquitto
FROM scratch
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="keyward-mosquitto" \
      org.opencontainers.image.description="mosquitto, whose devices are admitted by Keyward" \
      org.opencontainers.image.licenses="Apache-2.0 AND (EPL-2.0 OR BSD-3-Clause)" \
      org.opencontainers.image.version="$VERSION"
ADD debian.tar /
COPY LICENSE keyward.cdx.json /usr/share/doc/keyward/
COPY libkeyward_mosquitto.so /usr/lib/keyward/
USER 65532:65532
ENTRYPOINT ["/usr/sbin/mosquitto"]
CMD ["-c", "/etc/mosquitto/mosquitto.conf"]
