"""The commands that listen and speak in rooms: echo, hz, bw, delay, pub, request, replay."""
