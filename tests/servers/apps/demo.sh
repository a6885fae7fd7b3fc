#!/bin/bash
# The article's image without its shutdown code: both programs in one container, the front in the
# foreground.
@GUNICORN@ --bind=127.0.0.1:8001 --workers=4 --worker-tmp-dir=/dev/shm p0.wsgi &
exec /usr/sbin/nginx -p @DIR@ -c demo-nginx.conf -g 'daemon off;'
