#!/bin/bash
# The article's image as started there, without its shutdown code: both programs are daemons, the
# script only stays.
/usr/sbin/nginx -p @DIR@ -c demo-nginx.conf
@GUNICORN@ --daemon --bind=127.0.0.1:8001 --workers=4 --worker-tmp-dir=/dev/shm p0.wsgi
mkfifo @DIR@/block
exec 3<> @DIR@/block
read -r _ <&3
