"""The commands that listen in rooms and speak in them: echo, hz, bw, delay, pub, request, replay."""
