#!/bin/sh
# Keep a folder of instrumentals and acapellas beside a DJ's music, by artist and title:
#
#     examples/dj_folder.sh Music Stems
#
# Give it again whenever there are new songs (from cron, say): only those are separated. Options that
# follow are handed on, such as --model unet-fast.
set -eu
music=$1 stems=$2
shift 2
exec splitter separate -r "$music" -o "$stems" --format mp3 --bitrate 320k \
    --template '{artist} - {title} ({stem}).{ext}' --quiet "$@"
